"""A policy of one's own: two cheap models first; if they agree, done; else the most capable one decides.

Any object with `name`, `version` and `act` is a policy. Offline: the models only pretend.
"""

from __future__ import annotations

from xrouter import Router
from xrouter.episodes.episode import Call, CallModels, Decision, Observation, Select
from xrouter.ledger.memory import MemoryLedger
from xrouter.settings import Settings

SIMULATED = Settings(pool=("sim-small", "sim-maths", "sim-medium", "sim-large"))


class AgreeOrEscalate:
    name = "agree-or-escalate"
    version = "1"

    async def act(self, observation: Observation) -> Decision:
        answered = [response for response in observation.responses if response.ok]
        by_price = sorted(observation.pool, key=lambda model: model.price.rates.output)
        if not observation.responses:
            return Decision(CallModels(tuple(Call(model.name) for model in by_price[:2])))
        agreed = len(answered) > 1 and len({response.answer for response in answered}) == 1
        if answered and (agreed or observation.turns_left == 1 or answered[-1].model == by_price[-1].name):
            return Decision(Select(answered[-1].call_id))
        return Decision(CallModels((Call(by_price[-1].name),)))


def main() -> None:
    with Router(AgreeOrEscalate(), settings=SIMULATED, ledger=MemoryLedger()) as router:
        print(router.pool.notice)
        for question in (
            "What is the capital of Egypt?",
            "What is 24 - 14?",
            "What is the chemical symbol of iron?",
        ):
            answer = router.answer(question)
            route = " > ".join(" + ".join(turn) for turn in answer.route)
            print(f"{question}  {answer.text.splitlines()[-1]}  [{route}; ${answer.cost_usd:f}]")


if __name__ == "__main__":
    main()

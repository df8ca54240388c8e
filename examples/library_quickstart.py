"""Routes a few questions from plain Python and prints what each cost. Offline: the models only pretend.

With `Router()` alone the pool is every model whose API key is in the environment, and the ledger is the
SQLite file that `xrouter report` reads.
"""

from __future__ import annotations

from xrouter import Answer, Router
from xrouter.errors import EpisodeError
from xrouter.ledger.memory import MemoryLedger
from xrouter.settings import Settings

SIMULATED = Settings(pool=("sim-small", "sim-maths", "sim-medium", "sim-large"))


def show(title: str, answer: Answer) -> None:
    route = " > ".join(" + ".join(turn) for turn in answer.route)
    print(f"{title}: {answer.text.splitlines()[-1]}")
    print(f"   route {route} ({answer.stop_reason}), cost ${answer.cost_usd:f}")
    print(f"   {answer.reference_model} alone would have cost ${answer.reference_cost_usd:f}")


def main() -> None:
    with Router(settings=SIMULATED, ledger=MemoryLedger()) as router:
        print(router.pool.notice)
        show("as cheap as possible", router.answer("What is the capital of Norway?", preset="economy"))
        show("quality first", router.answer("What is 17 * 23?", preset="quality"))
        show(
            "a hard cap",
            router.answer("What is the chemical symbol of gold?", max_cost_usd="0.001", deadline_s=10),
        )
        messages = [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": "What is the capital of Peru?"},
        ]
        show("a conversation", router.answer(messages, cost_weight=1.0, temperature=0.0, max_tokens=200))
        try:
            router.answer("What is 2 + 2?", max_cost_usd="0.0000000001")
        except EpisodeError as error:
            print(f"a cap too low for any call: {error}")


if __name__ == "__main__":
    main()

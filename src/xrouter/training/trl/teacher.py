"""Scripts that play episodes for the supervised warm start.

A script says what a router may say, in its format. "Mixed" ones draw blindly; the informed one is chosen by what episodes
earned on the train split, which no router can know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ...catalog.model import Model
from ...episodes.episode import Call, CallModels, Decision, Observation, Select
from ...policies.router_turns import as_text, said
from ...settings_tables.router_llm import RouterLLMSettings
from ..dataset.rows import Sample
from .chat_template import ChatTemplate
from .rollouts import Sampled, Waiting

ONE, PAIR, ESCALATION = 0.6, 0.2, 0.2
"""Shares of mixed scripts: one model, two at once, a cheaper one and then a dearer."""


@dataclass(frozen=True, slots=True)
class Script:
    """rounds: the models called in each turn; at last the response of `chosen` is selected. words: say this and nothing else."""

    rounds: tuple[tuple[str, ...], ...] = ()
    chosen: str = ""
    words: str | None = None

    def within(self, turns: int) -> Script:
        """The same with a turn left to select in; where there is one turn, `chosen` alone, handed over unread."""
        if self.words is not None or len(self.rounds) < turns:
            return self
        if turns == 1:
            return Script(((self.chosen,),), self.chosen)
        rounds = self.rounds[: turns - 1]
        called = [model for names in rounds for model in names]
        return Script(rounds, self.chosen if self.chosen in called else called[-1])


def mixed_script(sample: Sample, pool: Sequence[Model], draw: random.Random) -> Script:
    """One that knows nothing of the question; where a sample is to be answered without a call, its answer."""
    if sample.trivial:
        return Script(words=sample.task.reference)
    names = [model.name for model in pool]
    first = draw.choice(names)
    if len(names) == 1 or draw.random() < ONE:
        return Script(((first,),), first)
    second = draw.choice([name for name in names if name != first])
    if draw.random() < PAIR / (PAIR + ESCALATION):
        return Script(((first, second),), draw.choice((first, second)))
    price = {model.name: model.price.rates.output for model in pool}
    cheap, dear = sorted((first, second), key=lambda name: price[name])
    return Script(((cheap,), (dear,)), dear)


def single_scripts(sample: Sample, pool: Sequence[Model]) -> list[Script]:
    """Each model alone, and no model at all where a sample is to be answered without a call."""
    own = [Script(words=sample.task.reference)] if sample.trivial else []
    return own + [Script(((model.name,),), model.name) for model in pool]


class Teacher:
    """Speaks as the scripts of its episodes say, in the tokens of the template. scripts: in the order of the episodes."""

    def __init__(
        self, scripts: dict[int, Script], template: ChatTemplate, options: RouterLLMSettings
    ) -> None:
        self._scripts = scripts
        self._template = template
        self._in_text = options.tool_mode == "text"

    def speak(self, waiting: Sequence[Waiting]) -> list[Sampled]:
        return [self._spoken(one) for one in waiting]

    def _spoken(self, one: Waiting) -> Sampled:
        message = self.message(self._scripts[id(one.episode)], one.episode.observation)
        ids = self._template.reply(one.request, message)
        return Sampled(tuple(ids), (0.0,) * len(ids))

    def message(self, script: Script, observation: Observation) -> dict[str, object]:
        script = script.within(len(observation.steps) + observation.turns_left)
        if script.words is not None:
            return {"role": "assistant", "content": script.words}
        turn = len(observation.steps)
        action: CallModels | Select
        if turn < len(script.rounds):
            action = CallModels(tuple(Call(model) for model in script.rounds[turn]))
        else:
            action = Select(_response_of(script.chosen, observation))
        told = said(Decision(action), turn + 1, observation.pool)
        return dict(as_text([told])[0] if self._in_text else told)


def _response_of(model: str, observation: Observation) -> str:
    """The call id of this model's response, or of another that did not fail."""
    good = [response for response in observation.responses if response.ok] or list(observation.responses)
    return next((r.call_id for r in good if r.model == model), good[-1].call_id)

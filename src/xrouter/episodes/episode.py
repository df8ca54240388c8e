"""The decision problem's vocabulary: observation, action, decision, step, episode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from ..catalog.model import Model
from ..errors import ProviderError
from ..messages import Completion, Message, Request, Usage
from .response_flaws import Flaw, leaves_no_answer

DEFAULT_MAX_TURNS = 3
"""Two rounds of calls and a choice."""

StopReason = Literal[
    "direct", "selected", "synthesised", "simple", "turn_limit", "time_limit", "cost_limit", "failed"
]


@dataclass(frozen=True, slots=True)
class Preference:
    """What the caller wants of one request.

    cost_weight: lambda of the reward; 0 = quality alone. Costs are counted in units of the pool's
        reference cost (see `rewards.cost_aware`), so the same number means the same on any pool.
    target_quality: the cheapest way to this probability of a right answer, within (0, 1). Takes the place of
        `cost_weight`, which is then not read; None = lambda decides.
    max_cost_usd: hard cap on the whole episode; None = no cap.
    deadline_s: seconds for the whole episode; None = none.
    simple: exactly one decision: answer directly or one call, returned as it is.
    """

    cost_weight: float = 0.1
    target_quality: float | None = None
    max_cost_usd: Decimal | None = None
    deadline_s: float | None = None
    max_turns: int = DEFAULT_MAX_TURNS
    simple: bool = False

    def in_turns(self, max_turns: int) -> Preference:
        """The same with so many turns."""
        return Preference(
            self.cost_weight,
            self.target_quality,
            self.max_cost_usd,
            self.deadline_s,
            max_turns,
            self.simple,
        )

    def shortfall(self, confidence: float | None) -> str | None:
        """Why an answer of this confidence is not what `target_quality` asked for; None if it is.

        A confidence is rounded down, so that one that falls short never reads as the target itself.
        """
        if self.target_quality is None or (confidence is not None and confidence >= self.target_quality):
            return None
        if confidence is None:
            return f"target_quality {self.target_quality:g} not known to be reached: no confidence was stated"
        return f"target_quality {self.target_quality:g} not reached: {math.floor(confidence * 1000) / 1000:g}"


@dataclass(frozen=True, slots=True)
class Call:
    """Ask one pool model, if wanted with a system prompt written for it and a temperature."""

    model: str
    system_prompt: str | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class CallModels:
    """Ask these models at once."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """Hand over one earlier response, by call id."""

    call_id: str


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """The policy answers by itself, before any call."""

    text: str


@dataclass(frozen=True, slots=True)
class Synthesis:
    """The policy answers in its own words, after calls."""

    text: str


Action = CallModels | Select | DirectAnswer | Synthesis


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, how sure the policy is that the answer it would now give is right, and what deciding cost.

    confidence: probability in 0..1, or None where the policy has none.
    outside_training: the request is unlike all that the policy was trained on, so the decision is the safe one and
        the confidence a guess.
    hand_over: of a single call: its answer is the answer, the policy need not read it first. Only then can it be
        streamed while the model still writes.
    policy_model: the model that decided, where a language model did; its tokens are booked like any call.
    policy_s: seconds that model took.
    message: what it said, as an assistant message, so that it can be shown its own words again.
    problems: what was wrong with what it said, by kind, and how often ("unknown_tool": 1); never its words.
    refused: id of a tool call in `message` -> why it is not carried out though others of the message are.
    fallback: why this is not what the policy wanted to do, such as that its model could not be reached.
    """

    action: Action
    confidence: float | None = None
    usage: Usage = field(default_factory=Usage)
    policy_model: Model | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    outside_training: bool = False
    hand_over: bool = False
    policy_s: float = 0.0
    message: Message | None = None
    problems: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What came back from one call. A failed call is a response with `error` and no completion.

    answer: the final answer read from the text, normalised; None where there is none.
    flaws: what is plainly wrong with it, e.g. that it refused (see `response_flaws`).
    cost_usd: what the call was booked at, failed calls included.
    fault: the error of a failed call, for whoever answers the client; `error` is its text.
    partial: the call failed when a part of its answer had reached the client already.
    side_calls: calls that were made beside this one and paid for, whose answers nobody gets (a hedged pair's slower one).
    """

    call_id: str
    model: str
    turn: int
    completion: Completion | None
    answer: str | None
    usage: Usage
    cost_usd: Decimal
    latency_s: float
    error: str | None = None
    fault: ProviderError | None = field(default=None, compare=False, repr=False)
    partial: bool = False
    side_calls: tuple[Response, ...] = ()
    flaws: frozenset[Flaw] = frozenset()

    @property
    def ok(self) -> bool:
        return self.completion is not None

    @property
    def paid(self) -> tuple[Response, ...]:
        """This call and those beside it."""
        return (self, *self.side_calls)

    @property
    def useless(self) -> bool:
        """Whether it came back and answers nothing: flawed, and cut off at most before it had answered."""
        return leaves_no_answer(self.flaws) or (bool(self.flaws) and self.answer is None)

    @property
    def text(self) -> str:
        return self.completion.text if self.completion else ""


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a policy may see. `money_left_usd` and `time_left_s` are None where there is no limit.

    allowed: names of the pool's models that may be called; None = all.
    warm_tokens: by model, how much of the prompt it is likely to have in its cache.
    streaming: the client waits for the first token: a decision that can already say `hand_over` should.
    steps: what was decided so far, and what each decision brought.
    cut_short: a list to which a policy appends what deciding cost when it comes to no decision; None = nobody books it.
    """

    request: Request
    pool: tuple[Model, ...]
    preference: Preference
    responses: tuple[Response, ...]
    turns_left: int
    money_left_usd: Decimal | None = None
    time_left_s: float | None = None
    errors: tuple[str, ...] = ()
    """What the environment refused of the last action (an unknown tool, a call over the cap)."""
    allowed: frozenset[str] | None = None
    streaming: bool = False
    warm_tokens: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    cut_short: list[Decision] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One decision and what it brought."""

    decision: Decision
    responses: tuple[Response, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished episode: every step, the answer handed over, and what it all cost.

    answer_from: the response that was handed over; None when the policy answered itself.
    degraded: why the answer is not what the policy wanted (a limit was hit, calls failed); None if it is.
    """

    id: str
    request: Request
    preference: Preference
    steps: tuple[Step, ...]
    completion: Completion
    answer_from: Response | None
    stop_reason: StopReason
    cost_usd: Decimal
    usage: Usage
    latency_s: float
    confidence: float | None = None
    degraded: str | None = None

    @property
    def responses(self) -> tuple[Response, ...]:
        return tuple(response for step in self.steps for response in step.responses)

    @property
    def outside_training(self) -> bool:
        """Whether the policy said that the request is unlike all that it was trained on."""
        return any(step.decision.outside_training for step in self.steps)

    @property
    def calls(self) -> tuple[str, ...]:
        """Models in the order they were called."""
        return tuple(response.model for response in self.responses)

    @property
    def text(self) -> str:
        return self.completion.text

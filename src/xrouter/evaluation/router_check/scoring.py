"""Whether what an endpoint said to a case is right, and what all cases come to. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...episodes.episode import Action, CallModels, DirectAnswer, Observation, Select, Synthesis
from ...messages import Usage

DEFAULT_THRESHOLD = 0.8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking one case once.

    action: None where the reply was none; error: then why. unreachable: the endpoint itself failed.
    problems: kinds of what was wrong, mended or not. seconds: of the decision. sent_tokens: what was sent, estimated.
    """

    action: Action | None
    error: str | None = None
    unreachable: bool = False
    problems: dict[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    sent_tokens: int = 0


Judge = Callable[[Action], str | None]
"""Why an action is wrong for its case; None if it is right."""


@dataclass(frozen=True, slots=True)
class Case:
    """One situation that a router must master.

    shows: what it takes, in a few words. essential: without it no model can be a router, whatever its score.
    rules: added to the router's own, so that what is right does not depend on taste.
    """

    name: str
    shows: str
    observation: Observation
    judge: Judge
    weight: float = 1.0
    essential: bool = False
    rules: str | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case asked several times. share: how many of the replies were right, 0 to 1; whys: what was wrong with others."""

    case: Case
    share: float
    whys: tuple[str, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Right more often than not."""
        return self.share > 0.5


@dataclass(frozen=True, slots=True)
class Score:
    """score: weighted share of right replies, 0 to 1. fit: above the threshold with every essential case passed."""

    score: float
    threshold: float
    fit: bool
    missing: tuple[str, ...]
    problems: dict[str, int]


def result(case: Case, outcomes: Sequence[Outcome]) -> CaseResult:
    whys = [verdict(case, outcome) for outcome in outcomes]
    wrong = tuple(why for why in whys if why is not None)
    return CaseResult(case, 1 - len(wrong) / len(whys), wrong, tuple(outcomes))


def verdict(case: Case, outcome: Outcome) -> str | None:
    """Why the outcome is wrong; None if it is right. A reply that was no action is wrong in every case."""
    if outcome.action is None:
        return outcome.error or "no action"
    return case.judge(outcome.action)


def score(results: Sequence[CaseResult], threshold: float = DEFAULT_THRESHOLD) -> Score:
    total = sum(each.case.weight for each in results)
    points = sum(each.case.weight * each.share for each in results)
    missing = tuple(each.case.name for each in results if each.case.essential and not each.passed)
    problems: Counter[str] = Counter()
    for each in results:
        for outcome in each.outcomes:
            problems.update(outcome.problems)
    value = points / total if total else 0.0
    return Score(value, threshold, value >= threshold and not missing, missing, dict(problems))


# --- judges ------------------------------------------------------------------------------------------------


def calls(*exactly: str, never: Collection[str] = (), at_most: int | None = None, **wanted: Any) -> Judge:
    """A call of any models, or of exactly these; of none of `never`. wanted: arguments that the first call must have."""

    def judge(action: Action) -> str | None:
        if not isinstance(action, CallModels):
            return f"called nobody: {said(action)}"
        names = [call.model for call in action.calls]
        if exactly and sorted(names) != sorted(exactly):
            return f"called {', '.join(names)} instead of {', '.join(exactly)}"
        if at_most is not None and len(names) > at_most:
            return f"called {len(names)} models, {at_most} allowed"
        for name in names:
            if name in never:
                return f"called {name}"
        for key, value in wanted.items():
            found = getattr(action.calls[0], key)
            if (value is Ellipsis and not found) or (value is not Ellipsis and found != value):
                return f"{key} is {found!r}"
        return None

    return judge


def selects(call_id: str) -> Judge:
    def judge(action: Action) -> str | None:
        if isinstance(action, Select):
            return None if action.call_id == call_id else f"selected {action.call_id}, not {call_id}"
        return f"selected nothing: {said(action)}"

    return judge


def answers(*containing: str) -> Judge:
    """Own words before any call, with one of these in them."""

    def judge(action: Action) -> str | None:
        if not isinstance(action, DirectAnswer):
            return f"did not answer by itself: {said(action)}"
        text = action.text.casefold()
        if containing and not any(word.casefold() in text for word in containing):
            return f"the answer lacks {' or '.join(containing)}"
        return None

    return judge


def synthesises(*containing: str) -> Judge:
    """Own words after calls, with all of these in them."""

    def judge(action: Action) -> str | None:
        if not isinstance(action, Synthesis):
            return f"wrote no answer of its own: {said(action)}"
        missing = [word for word in containing if word.casefold() not in action.text.casefold()]
        return f"the answer lacks {' and '.join(missing)}" if missing else None

    return judge


def anything(*, never: Collection[str] = ()) -> Judge:
    """Any action that calls none of `never`."""

    def judge(action: Action) -> str | None:
        called = [call.model for call in action.calls] if isinstance(action, CallModels) else []
        wrong = [name for name in called if name in never]
        return f"called {wrong[0]}" if wrong else None

    return judge


def either(*judges: Judge) -> Judge:
    def judge(action: Action) -> str | None:
        whys = [why for one in judges if (why := one(action)) is not None]
        return whys[0] if len(whys) == len(judges) else None

    return judge


def said(action: Action) -> str:
    """An action in a few words."""
    match action:
        case CallModels(calls=made):
            return "called " + ", ".join(call.model for call in made)
        case Select(call_id=call_id):
            return f"selected {call_id}"
        case _:
            return "wrote " + repr(action.text[:40] + ("..." if len(action.text) > 40 else ""))

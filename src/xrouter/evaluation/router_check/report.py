"""A check's results as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from ...catalog.model import Model
from .scoring import CaseResult, Score, said

ADVICE = {
    "call_in_text": "calls came as text: the server's tool-call parser is off or not this model's (they were read all the same)",
    "malformed_call": "tool calls could not be read: check the tool-call parser and the chat template",
    "prose": "it speaks of tools in place of calling them: its template may lack tools (try --tool-mode text), or it was not trained on them",
    "bad_arguments": "arguments do not follow their schema",
    "unknown_tool": "it calls tools that are not there",
    "client_tool": "it calls the application's tools itself",
    "cut": "replies end at the token limit: raise router_llm.max_tokens, or stop it from thinking at length",
    "own_words": "it answers where only a model may",
    "empty": "replies are empty: check the reasoning parser",
}
"""What to do about kinds of problems."""
READ_SHARE = 0.6
"""Where the endpoint counts a smaller share of the tokens that were sent, some of it did not reach the model."""


def lines(results: Sequence[CaseResult], score: Score, model: Model) -> list[str]:
    width = max(len(each.case.name) for each in results)
    shown = [_line(each, width) for each in results]
    shown += ["", f"score      {score.score:.2f}  (fit from {score.threshold:.2f} on)"]
    shown.append(_spent(results, model))
    if (unread := _unread(results)) is not None:
        shown.append(f"prompts    {unread}")
    if score.problems:
        counted = ", ".join(f"{kind} {count}" for kind, count in sorted(score.problems.items()))
        shown.append(f"problems   {counted}")
        shown += [f"           {ADVICE[kind]}" for kind in sorted(score.problems) if kind in ADVICE]
    if score.fit:
        shown.append(f"verdict    {model.name} at this endpoint can be a router")
    else:
        why = f"it fails {', '.join(score.missing)}" if score.missing else "its score is too low"
        shown.append(f"verdict    {model.name} at this endpoint cannot be a router: {why}")
    return shown


def as_json(results: Sequence[CaseResult], score: Score, model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "score": round(score.score, 4),
        "threshold": score.threshold,
        "fit": score.fit,
        "missing": list(score.missing),
        "problems": score.problems,
        "cases": [
            {
                "name": each.case.name,
                "shows": each.case.shows,
                "weight": each.case.weight,
                "essential": each.case.essential,
                "passed": each.passed,
                "share": each.share,
                "wrong": list(each.whys),
                "did": [said(o.action) for o in each.outcomes if o.action is not None],
                "seconds": [round(o.seconds, 3) for o in each.outcomes],
                "prompt_tokens": [o.usage.prompt_tokens for o in each.outcomes],
                "completion_tokens": [o.usage.completion_tokens for o in each.outcomes],
            }
            for each in results
        ],
    }


def _line(each: CaseResult, width: int) -> str:
    asked = len(each.outcomes)
    mark = "pass" if each.passed else "FAIL"
    share = f" {round(each.share * asked)}/{asked}" if asked > 1 else ""
    why = f"  ({_short(each.whys[0])})" if each.whys else ""
    essential = "*" if each.case.essential else " "
    return f"{mark}{share} {essential} {each.case.name:<{width}}  {each.case.shows}{why}"


def _spent(results: Sequence[CaseResult], model: Model) -> str:
    outcomes = [outcome for each in results for outcome in each.outcomes if not outcome.unreachable]
    if not outcomes:
        return "decisions  none"
    prompt = median(outcome.usage.prompt_tokens for outcome in outcomes)
    output = median(outcome.usage.completion_tokens for outcome in outcomes)
    seconds = median(outcome.seconds for outcome in outcomes)
    cost = sum((model.price.cost(outcome.usage) for outcome in outcomes), start=0 * model.price.rates.input)
    each = f", ${cost / len(outcomes):.6f} each" if cost else ""
    return (
        f"decisions  {len(outcomes)}: median {prompt:.0f} tokens in, {output:.0f} out, {seconds:.2f} s{each}"
    )


def _unread(results: Sequence[CaseResult]) -> str | None:
    """What it means that prompts count for less than was sent; None if they do not."""
    counted = [
        (outcome.usage.prompt_tokens, outcome.sent_tokens)
        for each in results
        for outcome in each.outcomes
        if outcome.sent_tokens and outcome.usage.prompt_tokens and not outcome.usage.estimated
    ]
    if not counted or median(read / sent for read, sent in counted) >= READ_SHARE:
        return None
    read, sent = (median(column) for column in zip(*counted, strict=True))
    return (
        f"{read:.0f} tokens were read of about {sent:.0f} sent: the template leaves the tools out (try --tool-mode text), "
        "or the server cuts long prompts"
    )


def _short(why: str, most: int = 90) -> str:
    line = " ".join(why.split())
    return line if len(line) <= most else line[: most - 3] + "..."

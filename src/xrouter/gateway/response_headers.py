"""What the headers of an answer say of its routing."""

from __future__ import annotations

from collections.abc import Sequence

from ..accounts.admission import Admission
from ..answer import Answer
from ..episodes.booking import route_of
from ..ledger.ledger import Spent
from .reply import dollars


def answer_headers(answer: Answer, seconds: float, upstream_s: float) -> dict[str, str]:
    """seconds: the gateway held the request for so long; without `upstream_s`, spent in calls, it is overhead."""
    headers = {
        "x-xrouter-route": route_of(answer.episode),
        "x-xrouter-model": answer.model,
        "x-xrouter-cost-usd": dollars(answer.cost_usd),
        "x-xrouter-overhead-ms": f"{1000 * max(0.0, seconds - upstream_s):.2f}",
    }
    if answer.savings is not None:
        headers["x-xrouter-savings"] = f"{answer.savings:.4f}"
    if answer.confidence is not None:
        headers["x-xrouter-confidence"] = f"{answer.confidence:.4f}"
    if answer.degraded is not None:
        headers["x-xrouter-degraded"] = "true"
    return headers


def budget_headers(admission: Admission, spent: Sequence[Spent]) -> dict[str, str]:
    """What the key has spent in its budget's period, and what the tightest of all budgets that apply has left."""
    headers = {}
    own = next((total for total in spent if total.scope.startswith("key:")), None)
    if own is not None:
        headers["x-xrouter-key-spend-usd"] = dollars(own.cost_usd)
    left = admission.left_usd(spent)
    if left is not None:
        headers["x-xrouter-budget-left-usd"] = dollars(left)
    return headers


def calling_s(answer: Answer) -> float:
    """Seconds in which models were being asked: of each turn the decision, where a model takes it, and the slowest call."""
    return sum(
        step.decision.policy_s + max((response.latency_s for response in step.responses), default=0.0)
        for step in answer.episode.steps
    )

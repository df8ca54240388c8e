"""What the headers of an answer say of its routing."""

from __future__ import annotations

from ..answer import Answer
from ..episodes.booking import route_of
from .reply import dollars


def answer_headers(answer: Answer, seconds: float) -> dict[str, str]:
    """seconds: the gateway held the request for so long; without the time of the calls it is overhead."""
    headers = {
        "x-xrouter-route": route_of(answer.episode),
        "x-xrouter-model": answer.model,
        "x-xrouter-cost-usd": dollars(answer.cost_usd),
        "x-xrouter-overhead-ms": f"{1000 * max(0.0, seconds - calling_s(answer)):.2f}",
    }
    if answer.savings is not None:
        headers["x-xrouter-savings"] = f"{answer.savings:.4f}"
    if answer.confidence is not None:
        headers["x-xrouter-confidence"] = f"{answer.confidence:.4f}"
    if answer.degraded is not None:
        headers["x-xrouter-degraded"] = "true"
    return headers


def calling_s(answer: Answer) -> float:
    """Seconds in which models were being asked: of each turn its slowest call."""
    return sum(
        max((response.latency_s for response in step.responses), default=0.0) for step in answer.episode.steps
    )

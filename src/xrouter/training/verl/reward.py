"""The reward for verl's reward managers (`reward.custom_reward_function`): what the agent loop noted of its episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import DataError

NOTED = "episode_numbers"
"""Field of the loop's output that says what the episode came to."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, float]:
    """`score` and the numbers beside it. The text is not graded again: who answered and what it cost are not in it.

    Raises DataError where the episode was not played by `agent_loop.py:RouterAgentLoop`, or where a manager (verl's `dapo`)
    does not hand on what the loop noted.
    """
    noted = (extra_info or {}).get(NOTED)
    if not isinstance(noted, Mapping) or "score" not in noted:
        raise DataError(
            f"{data_source}: the episode's reward is missing from extra_info: play it with the agent loop `xrouter` and "
            "verl's reward manager `naive`"
        )
    return {name: float(value) for name, value in noted.items()}

"""Samples over the synthetic outcomes of `outcomes_kit`, and replies such as a router might give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from outcomes_kit import MODELS

from xrouter.episodes.episode import Preference
from xrouter.messages import Completion, Request, Usage
from xrouter.settings_tables.router_llm import RouterLLMSettings
from xrouter.tasks.outcomes import Outcomes
from xrouter.tasks.task import Task
from xrouter.tasks.world import World
from xrouter.training.dataset.rows import Sample
from xrouter.training.router.episode import RouterEpisode
from xrouter.training.router.reward import EpisodeReward, RewardSettings
from xrouter.training.trained_model import trained_model

OPTIONS = RouterLLMSettings(price={"input": "1", "output": "2"})
"""A router of 1 and 2 USD per million tokens."""
TURN = Usage(1000, 50)
TURN_USD = 0.0011


def sample(
    outcomes: Outcomes, row: int, *, cost_weight: float = 0.1, max_turns: int = 3, trivial: bool = False
) -> Sample:
    task = Task(
        outcomes.query_ids[row],
        outcomes.datasets[row],
        Request.from_text(outcomes.recording.prompts[row]),
        "exact",
        f"r{row}",
    )
    preference = Preference(cost_weight=cost_weight, max_turns=max_turns)
    return Sample(
        row, task, (), (), tuple(MODELS), "all", preference, "kit", "medium", "train", 0, trivial, 0.5, 100
    )


def episode(
    world: World,
    one: Sample,
    reward: RewardSettings | None = None,
    options: RouterLLMSettings = OPTIONS,
) -> RouterEpisode:
    return RouterEpisode(one, world, trained_model(options), options, EpisodeReward(reward))


def says(text: str | None = None, *calls: tuple[str, dict[str, Any]]) -> Completion:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"c{i}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for i, (name, arguments) in enumerate(calls)
        ]
    return Completion(message, TURN, "tool_calls" if calls else "stop")


def calls(*models: str) -> Completion:
    return says(None, *((f"call_{model}", {}) for model in models))


def selects(call_id: str) -> Completion:
    return says(None, ("select_response", {"call_id": call_id}))


def call_ids(request: Request) -> list[str]:
    """Of the responses that the router is shown."""
    shown: Sequence[dict[str, Any]] = [
        json.loads(message["content"]) for message in request.messages if message["role"] == "tool"
    ]
    return [one["call_id"] for one in shown if "call_id" in one]

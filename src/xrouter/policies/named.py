"""The policy of whoever names a model: ask that one, and if it fails those that stand in for it."""

from __future__ import annotations

from collections.abc import Sequence

from ..episodes.episode import Call, CallModels, Decision, Observation
from .policy import Policy


class Named:
    """Asks the models in order until one answers; each answer is handed over as it comes.

    otherwise: decides once all of them have failed; None = the last one is asked again.
    """

    def __init__(self, models: Sequence[str], otherwise: Policy | None = None) -> None:
        self.models = tuple(models)
        self.otherwise = otherwise
        self.name = "passthrough" if otherwise is None else otherwise.name
        self.version = "1" if otherwise is None else otherwise.version

    async def act(self, observation: Observation) -> Decision:
        tried = len(observation.responses)
        if self.otherwise is not None and tried >= len(self.models):
            return await self.otherwise.act(observation)
        return Decision(CallModels((Call(self.models[min(tried, len(self.models) - 1)]),)), hand_over=True)

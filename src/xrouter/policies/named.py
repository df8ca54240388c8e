"""The policy of whoever names a model: ask that one, and if it fails those that stand in for it."""

from __future__ import annotations

from collections.abc import Sequence

from ..episodes.episode import Call, CallModels, Decision, Observation
from ..providers.fallbacks import falls_back
from .policy import Policy


class Named:
    """Asks the models in order until one answers; each answer is handed over as it comes.

    A request that a model refused as invalid is not shown to the next: that error is raised.
    otherwise: decides once all of them have failed; None = the last one is asked again.
    """

    def __init__(self, models: Sequence[str], otherwise: Policy | None = None) -> None:
        self.models = tuple(models)
        self.otherwise = otherwise
        self.name = "passthrough" if otherwise is None else otherwise.name
        self.version = "1" if otherwise is None else otherwise.version

    async def act(self, observation: Observation) -> Decision:
        tried = len(observation.responses)
        fault = observation.responses[-1].fault if tried else None
        if fault is not None and not falls_back(fault):
            raise fault
        if self.otherwise is not None and tried >= len(self.models):
            return await self.otherwise.act(observation)
        return Decision(CallModels((Call(self.models[min(tried, len(self.models) - 1)]),)), hand_over=True)

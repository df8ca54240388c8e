"""Which groups verl trains on, and what the episodes of a step were like: verl's own buffer with two things added.

verl logs of a training step the reward, lengths, turns and entropy; quality, cost, calls and routes it knows of validation
alone. And its V1 trainer draws groups again without end where all rewards of a group are equal.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import transfer_queue
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from .agent_loop import PROBLEMS, WORLD
from .episode_record import step_metrics
from .reward import NOTED

PREFIX = "xrouter/"
TRAINING = "train"


class RouterReplayBuffer(ReplayBuffer):  # type: ignore[misc]  # verl has no types
    """sampler_kwargs: filter_groups, train_batch_size, max_inflight_gen_batches, max_generation_batches (0 = no limit).

    verl hands these to its own buffer alone (`trainer_base.py:_build_replay_buffer`), so that they have to come this way.
    """

    def __init__(self, *, sampler_kwargs: Any, **kwargs: Any) -> None:
        self._prompts = int(sampler_kwargs["train_batch_size"])
        self._max_batches = int(sampler_kwargs["max_generation_batches"])
        self._dropped = 0
        super().__init__(
            **kwargs,
            sampler_kwargs=sampler_kwargs,
            filter_groups_metric="reward" if sampler_kwargs["filter_groups"] else None,
            train_batch_size=self._prompts,
            gen_batch_size=1,
            max_inflight_gen_batches=int(sampler_kwargs["max_inflight_gen_batches"]),
        )

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """verl's sample, and of training episodes the means of their numbers under `xrouter/`."""
        self._dropped = 0
        batch, figures = super().sample(global_steps, partition_id, batch_size)
        if partition_id == TRAINING and batch.keys:
            figures |= self._episodes(batch)
        return batch, figures

    def _dapo_filtered_keys(self, partition_id: str) -> tuple[set[str], Counter[float]]:
        """As verl's, until as many groups were drawn as the limit allows: then groups that teach nothing are taken too."""
        equal, values = super()._dapo_filtered_keys(partition_id)
        if partition_id != TRAINING or not self._max_batches:
            return equal, values
        # verl draws two groups for each one that it drops.
        allowed = (self._max_batches - 1) * self._prompts // 2 - self._dropped
        if len(equal) > allowed:
            equal = set(sorted(equal)[: max(0, allowed)])
            shared = self._dapo_classification_cache[partition_id]
            values = Counter(shared[uid] for uid in equal)
        self._dropped += len(equal)
        return equal, values

    def _episodes(self, batch: Any) -> dict[str, float]:
        data = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
        )
        fields = [getattr(value, "data", value) for value in data["extra_fields"]]
        means = step_metrics([{"numbers": one[NOTED], "problems": one[PROBLEMS]} for one in fields])
        world: dict[str, float] = {}
        for one in fields:  # counts that only grow: the highest is the latest
            world |= {name: max(value, world.get(name, value)) for name, value in one[WORLD].items()}
        return {f"{PREFIX}{name}": value for name, value in {**means, **world}.items()}

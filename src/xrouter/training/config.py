"""What a training run is: every number in one place, written into the run folder and the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from ..episodes.episode import DEFAULT_MAX_TURNS
from ..errors import ConfigurationError
from ..policies.network import HIDDEN
from .episodes import Sampling

RewardName = Literal["linear", "cost_aware"]
Scale = Literal["none", "group", "batch"]
Keep = Literal["last", "best"]
Algorithm = Literal["dapo", "grpo", "reinforce", "evolution"]


@dataclass(frozen=True)
class TrainingConfig:
    """One run. Learning rates are AdamW's; a step is one batch of fresh episodes.

    max_turns: decisions of a training episode; one more than an episode has by default, so that a caller may ask for it.
    reward: 'linear' is s - lambda C; 'cost_aware' is s (K - min(lambda C, c_max)). C in units of the pool's reference cost.
    algorithm: of the second phase, `dapo_steps` long. 'dapo' clips higher above, drops groups of equal rewards and draws
        others; 'grpo' clips evenly, divides by the group's deviation and keeps every group; 'reinforce' does not clip;
        'evolution' perturbs the output layers instead.
    temperature: of the softmax over values that explores in DAPO.
    averaging: how much of the running average of the weights one gradient step keeps.
    scale: how group-relative advantages are scaled ('none', 'group', 'batch').
    keep: which weights are served, the 'last' or those that validated 'best'.
    """

    seed: int = 0
    max_turns: int = DEFAULT_MAX_TURNS + 1
    dimensions: int = 128
    landmarks: int = 256
    vocabulary: int = 24_000
    hidden: int = HIDDEN
    reward: RewardName = "linear"
    success_bonus: float = 1.0
    penalty_cap: float = 0.8
    warm_steps: int = 20
    warm_batch: int = 768
    warm_learning_rate: float = 2e-3
    exploration: float = 0.25
    algorithm: Algorithm = "dapo"
    dapo_steps: int = 200
    groups: int = 128
    group_size: int = 8
    learning_rate: float = 7e-4
    clip_low: float = 0.2
    clip_high: float = 0.28
    scale: Scale = "batch"
    max_generation_batches: int = 10
    temperature: float = 0.03
    answer_loss_weight: float = 0.5
    weight_decay: float = 1e-3
    gradient_clip: float = 1.0
    averaging: float = 0.998
    validation_share: float = 0.1
    keep: Keep = "last"
    evaluate_every: int = 25
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("reward", RewardName),
            ("scale", Scale),
            ("keep", Keep),
            ("algorithm", Algorithm),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ConfigurationError(
                    f"{name} must be one of {get_args(allowed)}, got {getattr(self, name)!r}"
                )
        for name in (
            "max_turns",
            "groups",
            "warm_batch",
            "evaluate_every",
            "hidden",
            "dimensions",
            "landmarks",
        ):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.group_size < 2:
            raise ConfigurationError(
                f"group_size must be at least 2, got {self.group_size}: one rollout has no group"
            )
        if self.warm_steps < 0 or self.dapo_steps < 0 or self.warm_steps + self.dapo_steps == 0:
            raise ConfigurationError("warm_steps and dapo_steps must not be negative, nor both be 0")
        if not 0 <= self.validation_share < 1:
            raise ConfigurationError(f"validation_share must be in [0, 1), got {self.validation_share}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """Raises ConfigurationError naming an unknown key or a value of the wrong type."""
        values = _checked(cls, values, "training config")
        if "sampling" in values:
            values["sampling"] = Sampling(
                **_checked(Sampling, values["sampling"], "training config, sampling")
            )
        return cls(**values)


def _checked(cls: type, values: Any, where: str) -> dict[str, Any]:
    """The values, if they are what a dataclass of numbers and words wants."""
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} must be a table of settings, got {values!r}")
    defaults = {f.name: f.default for f in fields(cls)}
    unknown = sorted(set(values) - set(defaults))
    if unknown:
        raise ConfigurationError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(defaults))}")
    for name, value in values.items():
        wanted = type(defaults[name])
        fits = isinstance(value, (int, float) if wanted is float else wanted) and not isinstance(value, bool)
        if wanted in (int, float, str) and not fits:
            raise ConfigurationError(f"{where}: {name} must be like {defaults[name]!r}, got {value!r}")
    return dict(values)

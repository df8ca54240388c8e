"""What training a router of some size would take: GPU hours and dollars, from the lengths of real episodes.

Arithmetic, not measurement. A forward pass of a model of N parameters takes 2 N operations a token, a backward pass 4 N
(Kaplan et al., arXiv 2001.08361, section 2.1; attention over the context left out, which adds a few percent here), and
recomputed activations another 2 N.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Episodes:
    """Means over episodes, in tokens. prompt: what the router reads first. written: its replies. shown: responses that it
    reads. calls_usd: what the models that it calls cost an episode."""

    prompt: float
    written: float
    shown: float = 0.0
    calls_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """steps of so many prompts with so many rollouts each. kept: share of the groups that have something to teach; for each one
    that is dropped another is played."""

    steps: int = 100
    prompts: int = 512
    rollouts: int = 4
    kept: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.kept <= 1:
            raise ConfigurationError(f"kept must lie above 0 and at most 1, got {self.kept}", param="kept")

    @property
    def trained(self) -> int:
        """Episodes that gradients are taken of."""
        return self.steps * self.prompts * self.rollouts

    @property
    def played(self) -> float:
        return self.trained / self.kept


@dataclass(frozen=True, slots=True)
class Hardware:
    """peak_tflops: dense bf16, of one GPU. utilisation: the share of it that training and prefill reach.
    decode_tokens_per_s: written tokens a second and GPU, all sequences together. usd_per_hour: of one GPU."""

    peak_tflops: float = 989.0
    utilisation: float = 0.35
    decode_tokens_per_s: float = 8_000.0
    usd_per_hour: float = 2.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """GPU hours by what they go into, and dollars."""

    decode_hours: float
    prefill_hours: float
    train_hours: float
    gpu_usd: float
    calls_usd: float

    @property
    def gpu_hours(self) -> float:
        return self.decode_hours + self.prefill_hours + self.train_hours


def estimate(parameters: float, episodes: Episodes, schedule: Schedule, hardware: Hardware) -> Estimate:
    """parameters: of the model, all of them trained, activations recomputed. The prompt of a group is read once."""
    flops_per_hour = hardware.peak_tflops * 1e12 * hardware.utilisation * 3600
    whole = episodes.prompt + episodes.written + episodes.shown
    read = schedule.played * (episodes.prompt / schedule.rollouts + episodes.shown)
    decode = schedule.played * episodes.written / hardware.decode_tokens_per_s / 3600
    prefill = 2 * parameters * read / flops_per_hour
    # Forward, backward, activations once more, and the log-probabilities of the weights that played.
    train = (2 + 4 + 2 + 2) * parameters * whole * schedule.trained / flops_per_hour
    return Estimate(
        decode_hours=decode,
        prefill_hours=prefill,
        train_hours=train,
        gpu_usd=(decode + prefill + train) * hardware.usd_per_hour,
        calls_usd=schedule.played * episodes.calls_usd,
    )

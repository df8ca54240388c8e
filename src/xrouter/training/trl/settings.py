"""The table [trl]: how a language model that routes is trained on one machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ...errors import ConfigurationError
from ...toml_reader import Reader, number, one_of, whole

Scale = Literal["none", "group", "batch"]
Precision = Literal["auto", "bfloat16", "float32"]
TeacherName = Literal["mixed", "informed"]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Adapters in place of all weights. targets: names of modules; empty = every linear layer but the last."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemonstrationSettings:
    """The supervised warm start on episodes that a script plays.

    count: episodes; 0 = no warm start. teacher: "mixed" plays every kind of episode with models drawn blindly, which teaches
        the format alone; "informed" calls the model whose recorded outcome earned most, on the train split.
    informed: share of the episodes that "informed" plays, the rest are "mixed". batch: episodes an update. micro_batch:
        episodes at once in memory.
    """

    count: int = 200
    teacher: TeacherName = "mixed"
    informed: float = 1.0
    epochs: int = 1
    batch: int = 8
    micro_batch: int = 2
    learning_rate: float = 1e-4

    @property
    def informed_share(self) -> float:
        return self.informed if self.teacher == "informed" else 0.0


@dataclass(frozen=True, slots=True)
class TRLSettings:
    """Each field is a key of [trl] with the same name.

    model: a folder in Hugging Face's layout, or a model's name on its hub. chat_template: a file that is used and saved in place
        of the model's own template, where that has no tools.
    steps: of DAPO, each on fresh episodes: `groups` questions, `group_size` episodes of each.
    mini_batch: episodes an update; None = all of a step. micro_batch: episodes at once in memory; None = a group.
    learning_rate, warmup_steps, weight_decay, max_grad_norm: AdamW's. clip_low, clip_high: DAPO's 0.2 and 0.28.
    scale_rewards: what advantages are divided by. "group" drives the policy to cheap models where all episodes of a group are
        right: only their costs differ then, and a tiny deviation blows that up.
    max_generation_batches: how often questions are drawn for one step until `groups` of them have rewards that differ; 1 = no
        dynamic sampling. reward_tolerance: rewards that differ by no more are equal.
    overlong_buffer, overlong_penalty: a reply's last so many tokens before `max_tokens` cost up to so much reward.
    problem_penalty: reward that each problem of a reply costs, such as a call that cannot be read: nothing else tells the model
        to keep to the format, for at the last turn the best response so far is handed over anyway.
    temperature: of sampling in training; judging is greedy.
    generation_batch: replies written at once.
    share_prompts: compute the prompt of a group once, not for each of its episodes; needs PyTorch's own attention (sdpa).
    precision: "auto" = bfloat16 where the device computes in it, else float32.
    device: "auto", "cpu", "cuda", "cuda:0". threads: of the CPU; None = torch's own choice.
    validate_every: steps between greedy runs over `validation_samples` samples of validation.parquet; 0 = never.
    save_every: steps between checkpoints.
    """

    model: str = ""
    chat_template: str | None = None
    seed: int = 0
    steps: int = 100
    groups: int = 8
    group_size: int = 8
    mini_batch: int | None = None
    micro_batch: int | None = None
    learning_rate: float = 1e-6
    warmup_steps: int = 10
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    scale_rewards: Scale = "none"
    max_generation_batches: int = 10
    reward_tolerance: float = 1e-4
    overlong_buffer: int = 64
    overlong_penalty: float = 0.1
    problem_penalty: float = 0.05
    temperature: float = 1.0
    generation_batch: int = 32
    share_prompts: bool = True
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    device: str = "auto"
    threads: int | None = None
    validate_every: int = 10
    validation_samples: int = 64
    save_every: int = 25
    tensorboard: bool = False
    lora: LoraSettings | None = None
    demonstrations: DemonstrationSettings = field(default_factory=DemonstrationSettings)

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigurationError(
                "trl.model is missing: name a folder in Hugging Face's layout, or a model of its hub",
                param="trl.model",
            )
        if self.group_size < 2:
            raise ConfigurationError(
                f"trl.group_size must be at least 2, got {self.group_size}: one episode has no group",
                param="trl.group_size",
            )
        for name, size, whole_name, of in (
            ("mini_batch", self.update_size, "groups x group_size", self.episodes),
            ("micro_batch", self.memory_size, "mini_batch", self.update_size),
        ):
            if of % size:
                raise ConfigurationError(
                    f"trl.{name} = {size} must divide {whole_name} = {of}", param=f"trl.{name}"
                )

    @property
    def episodes(self) -> int:
        """Of one step."""
        return self.groups * self.group_size

    @property
    def update_size(self) -> int:
        return self.mini_batch or self.episodes

    @property
    def memory_size(self) -> int:
        return self.micro_batch or math.gcd(self.update_size, self.group_size)

    @property
    def updates(self) -> int:
        """Of one step."""
        return self.episodes // self.update_size

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_trl(reader: Reader, key: str) -> TRLSettings:
    """Raises ConfigurationError naming the key and the value."""
    return TRLSettings(**reader.subtable(key).read(_KEYS))


def _lora(reader: Reader, key: str) -> LoraSettings:
    return LoraSettings(**reader.subtable(key).read(_LORA))


def _demonstrations(reader: Reader, key: str) -> DemonstrationSettings:
    return DemonstrationSettings(**reader.subtable(key).read(_DEMONSTRATIONS))


_Keys = Mapping[str, Callable[[Reader, str], Any]]
_LORA: _Keys = {
    "rank": whole(1),
    "alpha": whole(1),
    "dropout": number(0, 0.9),
    "targets": Reader.texts,
}
_DEMONSTRATIONS: _Keys = {
    "count": whole(0),
    "teacher": one_of(*get_args(TeacherName)),
    "informed": number(0, 1),
    "epochs": whole(1),
    "batch": whole(1),
    "micro_batch": whole(1),
    "learning_rate": number(0, above=True),
}
_KEYS: _Keys = {
    "model": Reader.text,
    "chat_template": Reader.text,
    "seed": whole(0),
    "steps": whole(0),
    "groups": whole(1),
    "group_size": whole(2),
    "mini_batch": whole(1),
    "micro_batch": whole(1),
    "learning_rate": number(0, above=True),
    "warmup_steps": whole(0),
    "weight_decay": number(0),
    "max_grad_norm": number(0, above=True),
    "clip_low": number(0, 1, above=True),
    "clip_high": number(0, above=True),
    "scale_rewards": one_of(*get_args(Scale)),
    "max_generation_batches": whole(1),
    "reward_tolerance": number(0),
    "overlong_buffer": whole(0),
    "overlong_penalty": number(0),
    "problem_penalty": number(0),
    "temperature": number(0, above=True),
    "generation_batch": whole(1),
    "share_prompts": Reader.flag,
    "precision": one_of(*get_args(Precision)),
    "gradient_checkpointing": Reader.flag,
    "device": Reader.text,
    "threads": whole(1),
    "validate_every": whole(0),
    "validation_samples": whole(1),
    "save_every": whole(1),
    "tensorboard": Reader.flag,
    "lora": _lora,
    "demonstrations": _demonstrations,
}

"""The [verl] table: how verl is to train the router, on what, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ...errors import ConfigurationError
from ...toml_reader import Reader, number, one_of, whole

Engine = Literal["sglang", "vllm"]

HERMES = "hermes"


@dataclass(frozen=True, slots=True)
class VerlSettings:
    """Each field is a key of [verl]. The defaults are xRouter's published run (arXiv 2510.08439), where it states a value.

    model: a Hugging Face name or a folder. nodes, gpus_per_node: what trains and samples, in turns.
    engine: who samples. tensor_parallel: GPUs for one copy of it; gpu_memory: the share of a GPU that it takes.
    prompts, rollouts: groups of a step, and episodes of a group. mini_batch: groups of one update.
    steps: None = as many as `epochs` over the data are. learning_rate, warmup_steps, weight_decay, gradient_clip: AdamW's.
    clip_low, clip_high: DAPO's bounds of the ratio. scale_by_std: divide advantages by the group's deviation.
    filter_groups: draw groups again whose rewards are all equal, in at most `max_generation_batches` times `prompts` of them;
        0 = without end. inflight_batches: of these, how many times `prompts` are under way at once.
    max_prompt_tokens, max_response_tokens, context_tokens: of one episode; the response is all that follows the first prompt,
        responses of models that the router reads included.
    overlong_buffer, overlong_penalty: DAPO's soft penalty over the last tokens of a response; 0 tokens = none.
    temperature, top_p: of sampling; validation takes the likeliest token.
    score_in_loop: False leaves the reward to verl's reward manager, which asks `reward.py:compute_score`.
    tool_parser: "hermes" reads <tool_call> blocks; any other name is one of verl's parsers.
    lora_rank, lora_alpha: 0 = all weights are trained. tokens_per_gpu: of one forward pass; longer episodes do not fit.
    sequence_parallel: GPUs that share a sequence. offload: parameters and optimiser wait in main memory.
    loop_workers: processes that play episodes. save_every, test_every: steps; keep: checkpoints kept, None = all.
    loggers: as verl names them; "file" writes metrics.jsonl. overrides: Hydra overrides of verl's config, after all of these.
    """

    model: str = "Qwen/Qwen2.5-7B-Instruct"
    nodes: int = 1
    gpus_per_node: int = 8
    engine: Engine = "sglang"
    tensor_parallel: int = 1
    gpu_memory: float = 0.6
    prompts: int = 512
    rollouts: int = 4
    mini_batch: int = 128
    steps: int | None = None
    epochs: int = 1
    learning_rate: float = 1e-6
    warmup_steps: int = 10
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    scale_by_std: bool = False
    filter_groups: bool = True
    max_generation_batches: int = 10
    inflight_batches: int = 1
    max_prompt_tokens: int = 16_384
    max_response_tokens: int = 8_192
    context_tokens: int = 32_768
    overlong_buffer: int = 1_024
    overlong_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    score_in_loop: bool = True
    tool_parser: str = HERMES
    lora_rank: int = 0
    lora_alpha: int = 32
    tokens_per_gpu: int = 24_576
    sequence_parallel: int = 1
    offload: bool = False
    loop_workers: int = 8
    save_every: int = 20
    test_every: int = 20
    keep: int | None = 3
    loggers: tuple[str, ...] = ("console", "file")
    seed: int = 42
    overrides: tuple[str, ...] = ()

    @property
    def sequence_tokens(self) -> int:
        """Of the longest episode."""
        return self.max_prompt_tokens + self.max_response_tokens


def read_verl(reader: Reader, key: str) -> VerlSettings:
    """Raises ConfigurationError naming the key and the value."""
    inner = reader.subtable(key)
    settings = VerlSettings(**inner.read(_READERS))

    def demand(holds: bool, name: str, why: str) -> None:
        if not holds:
            raise ConfigurationError(
                f"{reader.file}: {inner.dotted(name)} = {getattr(settings, name)!r}: {why}",
                param=inner.dotted(name),
            )

    whole_episode = f"max_prompt_tokens + max_response_tokens = {settings.sequence_tokens} must fit"
    demand(
        settings.prompts % settings.mini_batch == 0,
        "mini_batch",
        f"prompts = {settings.prompts} must be a multiple of it",
    )
    demand(settings.context_tokens >= settings.sequence_tokens, "context_tokens", whole_episode)
    demand(
        settings.tokens_per_gpu * settings.sequence_parallel >= settings.sequence_tokens,
        "tokens_per_gpu",
        f"{whole_episode} into the {settings.sequence_parallel} GPUs that share a sequence",
    )
    demand(
        settings.overlong_buffer <= settings.max_response_tokens,
        "overlong_buffer",
        f"it is part of max_response_tokens = {settings.max_response_tokens}",
    )
    return settings


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "model": Reader.text,
    "nodes": whole(1),
    "gpus_per_node": whole(1),
    "engine": one_of(*get_args(Engine)),
    "tensor_parallel": whole(1),
    "gpu_memory": number(0, 1, above=True),
    "prompts": whole(1),
    "rollouts": whole(2),
    "mini_batch": whole(1),
    "steps": whole(1),
    "epochs": whole(1),
    "learning_rate": number(0, above=True),
    "warmup_steps": whole(0),
    "weight_decay": number(0),
    "gradient_clip": number(0, above=True),
    "clip_low": number(0, 1, above=True),
    "clip_high": number(0, above=True),
    "scale_by_std": Reader.flag,
    "filter_groups": Reader.flag,
    "max_generation_batches": whole(0),
    "inflight_batches": whole(1),
    "max_prompt_tokens": whole(1),
    "max_response_tokens": whole(1),
    "context_tokens": whole(1),
    "overlong_buffer": whole(0),
    "overlong_penalty": number(0),
    "temperature": number(0, above=True),
    "top_p": number(0, 1, above=True),
    "score_in_loop": Reader.flag,
    "tool_parser": Reader.text,
    "lora_rank": whole(0),
    "lora_alpha": whole(1),
    "tokens_per_gpu": whole(1),
    "sequence_parallel": whole(1),
    "offload": Reader.flag,
    "loop_workers": whole(1),
    "save_every": whole(1),
    "test_every": whole(1),
    "keep": whole(1),
    "loggers": Reader.texts,
    "seed": whole(0),
    "overrides": Reader.texts,
}

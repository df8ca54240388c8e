"""A plug-in that lets verl train on a CPU: a platform without an accelerator and an engine that says what a script says.

verl imports it in all of its processes where VERL_USE_EXTERNAL_MODULES and VERL_PLATFORM name it. The engine samples no
token from the weights; it takes them at every update and counts how often.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry
from verl.workers.rollout import base
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

NAME = "cpu"


class NoDevice:
    """torch.cpu, and nothing to free or measure where an accelerator's module would have memory."""

    def mem_get_info(self, *_: Any) -> tuple[int, int]:
        return 0, 1

    def get_device_name(self, *_: Any) -> str:
        return "CPU"

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name, lambda *args, **kwargs: 0)


@PlatformRegistry.register(platform=NAME)
class CPU(PlatformBase):  # type: ignore[misc]
    device_name = NAME
    vendor_name = NAME

    @property
    def device_module(self) -> Any:
        return NoDevice()

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:  # type: ignore[override]
        return NAME

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None: ...


class Server:
    """In place of SGLang's or vLLM's server."""

    def __init__(self, tokenizer: Any) -> None:
        from verl_kit import Dice

        self.tokenizer = tokenizer
        self.says = Dice()
        self.version: int | None = None
        self.updates = 0

    async def generate(
        self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> TokenOutput:
        text = self.says(self.tokenizer.decode(prompt_ids))
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        ids = ids[: sampling_params["max_tokens"]]
        return TokenOutput(
            token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={"global_steps": self.version}
        )

    async def updated(self, version: int | None, tensors: int) -> None:
        self.version = version
        self.updates += 1

    async def nothing(self, *args: Any, **kwargs: Any) -> None: ...

    wake_up = sleep = abort_all_requests = resume_generation = nothing
    clear_kv_cache = release_kv_cache = resume_kv_cache = nothing


def server_name(replica: int) -> str:
    return f"cpu_server_{replica}"


class Replica(RolloutReplica):  # type: ignore[misc]
    async def launch_servers(self) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.model_config.path)
        actor = ray.remote(Server).options(name=server_name(self.replica_rank), num_cpus=0)
        self._server_handle = actor.remote(tokenizer)
        self._server_address = server_name(self.replica_rank)
        self.servers = [self._server_handle]


class Adapter(BaseRollout):  # type: ignore[misc]
    async def resume(self, tags: list[str]) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights: Any, **kwargs: Any) -> None:
        tensors = sum(1 for _ in weights)
        await ray.get_actor(server_name(0)).updated.remote(kwargs.get("global_steps"), tensors)


_init_process_group = torch.distributed.init_process_group


def init_process_group(backend: str | None = None, **kwargs: Any) -> None:
    """verl asks for `cpu:gloo` beside the backend of its platform, which here is the same."""
    _init_process_group(backend="gloo", **kwargs)


torch.distributed.init_process_group = init_process_group
base._ROLLOUT_REGISTRY[(NAME, "async")] = f"{__name__}.Adapter"
RolloutReplicaRegistry.register(NAME, lambda: Replica)
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

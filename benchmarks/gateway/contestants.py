"""Who is measured, how each is set up, and through which of its models."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .processes import Launch
from .venvs import environment

LITELLM = "litellm[proxy]==1.106.2"
TENSORZERO = "tensorzero==2026.6.0"
MASTER_KEY = "sk-benchmark-master-key"

POOL = ("gpt-6-astra", "gpt-6.1-sol", "gpt-6.1-terra", "gpt-6-luna", "gpt-5-mini", "gpt-5-nano")
NAMED = "gpt-5-mini"
POLICY = "xrouter"

MAKE_KEY = ("keys", "create", "benchmark", "--config", "{config}")
KEY = r"xr-[0-9A-Za-z]{43}"
"""What a virtual key looks like."""


@dataclass(frozen=True)
class Route:
    """One way through a contestant: a column of the table. `model`: what the request asks for."""

    key: str
    title: str
    model: str


@dataclass(frozen=True)
class Contestant:
    """launch(folder, upstream's base URL, workers): how it starts. `path`: of its chat completions."""

    key: str
    title: str
    launch: Callable[[Path, str, int], Launch]
    routes: tuple[Route, ...]
    path: str = "/v1/chat/completions"


@dataclass(frozen=True)
class OurOptions:
    """settings: TOML to put into the generated xrouter.toml, its plain keys before its tables.
    setup: arguments of xrouter commands to run before each start; `{config}` is the settings file. By default one makes a
    key, so that every request is checked for one.
    key_pattern: a regular expression; its first match in what `setup` prints is the key that requests carry. None = none.
    env: further variables for the server and `setup`."""

    settings: str = ""
    setup: tuple[tuple[str, ...], ...] = (MAKE_KEY,)
    key_pattern: str | None = KEY
    env: Mapping[str, str] = field(default_factory=dict)


def ours(options: OurOptions) -> Contestant:
    routes = (
        Route("policy", "xrouter, policy decides", POLICY),
        Route("named", "xrouter, model named", NAMED),
    )
    return Contestant("xrouter", "xrouter", partial(_launch_ours, options, None), routes)


def ours_in_memory(options: OurOptions, memory: Path) -> Contestant:
    """Ours with its ledger in a folder that is no disk: what the wait for the disk is worth."""
    route = Route("policy-memory", "xrouter, policy decides, ledger in memory", POLICY)
    title = "xrouter, ledger in memory"
    return Contestant("xrouter-memory", title, partial(_launch_ours, options, memory), (route,))


def _launch_ours(
    options: OurOptions, ledgers: Path | None, folder: Path, upstream: str, workers: int
) -> Launch:
    config = folder / "xrouter.toml"
    ledger = (ledgers or folder.parent) / folder.name / "ledger.sqlite"
    config.write_text(xrouter_toml(upstream, ledger, options.settings))
    xrouter = [sys.executable, "-m", "xrouter"]
    env = {**_environment(ours=True), **options.env}
    printed = ""
    for arguments in options.setup:
        argv = [*xrouter, *(word.replace("{config}", str(config)) for word in arguments)]
        printed += subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    port = _free_port()
    argv = [*xrouter, "serve", "--config", str(config), "--port", str(port)]
    if workers > 1:
        argv += ["--workers", str(workers)]
    return Launch(argv, f"127.0.0.1:{port}", "/healthz", env, _key(options.key_pattern, printed))


def _key(pattern: str | None, printed: str) -> dict[str, str]:
    """The header with the key that was printed. Raises ValueError where there is none."""
    if pattern is None:
        return {}
    found = re.search(pattern, printed)
    if found is None:
        raise ValueError(f"the setup commands printed nothing that matches {pattern!r}")
    return {"authorization": f"Bearer {found[0]}"}


def has_workers_option() -> bool:
    """Whether this xrouter can serve with several processes."""
    argv = [sys.executable, "-m", "xrouter", "serve", "--help"]
    env = _environment(ours=True) | {"COLUMNS": "200", "NO_COLOR": "1"}
    return "--workers" in subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout


def litellm(venvs: Path) -> Contestant:
    """LiteLLM's proxy with a master key and no database. Raises InstallError."""
    program = environment(venvs / "litellm", LITELLM) / "litellm"

    def launch(folder: Path, upstream: str, workers: int) -> Launch:
        config = folder / "litellm.yaml"
        config.write_text(litellm_yaml(upstream))
        port = _free_port()
        argv = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--num_workers", str(workers)]
        # Its own advice for production, and no attempt to fetch a price list first.
        more = {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        return Launch(argv, f"127.0.0.1:{port}", "/health/liveliness", _environment() | more, headers)

    return Contestant("litellm", "LiteLLM proxy", launch, (Route("litellm", "LiteLLM proxy", "mock"),))


def tensorzero(venvs: Path) -> Contestant:
    """TensorZero's gateway out of its wheel, on one thread, observability off. Raises InstallError."""
    python = environment(venvs / "tensorzero", TENSORZERO) / "python"

    def launch(folder: Path, upstream: str, workers: int) -> Launch:
        config, address = folder / "tensorzero.toml", folder / "address"
        config.write_text(tensorzero_toml(upstream))
        address.unlink(missing_ok=True)
        script = Path(__file__).with_name("tensorzero_server.py")
        argv = [str(python), str(script), str(config), str(address)]
        env = _environment() | {"TOKIO_WORKER_THREADS": str(workers)}
        # The wheel's server has the API and no health route: that it says so is its first healthy answer.
        return Launch(argv, address, "/health", env, healthy_status=404)

    route = Route("tensorzero", "TensorZero", "tensorzero::model_name::mock")
    return Contestant("tensorzero", "TensorZero", launch, (route,), path="/openai/v1/chat/completions")


def xrouter_toml(upstream: str, ledger: Path, more: str = "") -> str:
    """A pool of catalog models, all of them served by the mock."""
    pool = ", ".join(f'"{name}"' for name in POOL)
    return "\n".join(
        [
            f'ledger = "{ledger}"',
            f"pool = [{pool}]",
            "max_concurrency_per_model = 256",
            more,
            "[endpoints.openai]",
            'kind = "openai"',
            f'base_url = "{upstream}"',
            "",
        ]
    )


def litellm_yaml(upstream: str) -> str:
    return f"""\
model_list:
  - model_name: mock
    litellm_params: {{model: openai/mock-model, api_base: "{upstream}", api_key: none}}
general_settings: {{master_key: {MASTER_KEY}}}
litellm_settings: {{telemetry: false}}
"""


def tensorzero_toml(upstream: str) -> str:
    return f"""\
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true
[models.mock]
routing = ["mock"]
[models.mock.providers.mock]
type = "openai"
model_name = "mock-model"
api_base = "{upstream}/"
api_key_location = "none"
"""


def small_body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "What is 7 + 8?"}], **more}


def large_body(model: str, size: int = 200_000) -> dict[str, Any]:
    """A conversation of 401 messages, of about `size` bytes as JSON."""
    turns = 200
    filler = ("the quick brown fox jumps over the lazy dog and goes home " * 20)[: size // (2 * turns) - 40]
    messages = []
    for i in range(turns):
        messages.append({"role": "user", "content": f"{i}: {filler}"})
        messages.append({"role": "assistant", "content": f"{i}: {filler}"})
    messages.append({"role": "user", "content": "What is 7 + 8?"})
    return {"model": model, "messages": messages}


def _environment(*, ours: bool = False) -> dict[str, str]:
    """Without keys or settings of the user's; one thread for numerical libraries. Bytecode is kept: what pip installs has
    it, and a checkout that may not keep its own would be compiled anew at each start."""
    dropped = ("PYTHONDONTWRITEBYTECODE",) if ours else ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_API_KEY") and not name.startswith("XROUTER_") and name not in dropped
    }
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

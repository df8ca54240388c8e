"""Settings: xrouter.toml and the environment -> one frozen object. An unknown key is an error.

Read, first to last: `load_settings(path)`, else $XROUTER_CONFIG, else ./xrouter.toml if it is there, else the
defaults. XROUTER_HOST, XROUTER_PORT, XROUTER_POLICY, XROUTER_LEDGER and XROUTER_STATE then override the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from .errors import ConfigurationError
from .settings_tables.access import AccessSettings, read_access
from .settings_tables.addresses import read_ledger, read_state
from .settings_tables.cache import CacheSettings, read_cache
from .settings_tables.guardrails import GuardrailSettings, read_guardrails
from .settings_tables.observability import ObservabilitySettings, read_observability
from .settings_tables.router_llm import RouterLLMSettings, read_router_llm
from .settings_tables.upstream import UpstreamSettings, read_upstream
from .toml_reader import Reader, nearest, number, one_of, whole

EndpointKind = Literal["openai", "litellm", "local", "simulated"]

DEFAULT_PRESETS: Mapping[str, float] = MappingProxyType({"quality": 0.01, "balanced": 0.1, "economy": 1.0})
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where models are served.

    base_url: up to and including the version, such as https://api.openai.com/v1; None for local and litellm.
    key_env: the environment variable that holds the API key, never the key itself; None = no key needed.
    headers: sent with every request.
    """

    base_url: str | None = None
    key_env: str | None = None
    kind: EndpointKind = "openai"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user can set. Each field is a key of xrouter.toml with the same name.

    policy: a run folder, a checkpoint, a baseline's name or `tool-calling`; None = the policy that ships with the package.
    pool: names of models; None = every model whose key is in the environment, and the local ones.
    ledger: path of the SQLite file, or the URL of a PostgreSQL database. ${NAME} in a URL stands for that variable.
    state: where limits, reservations and sessions are shared: `memory`, `sqlite:PATH` or the URL of a Redis or Valkey
        server; None = memory for one worker, a file beside the ledger for several.
    request_timeout_s, call_timeout_s: seconds for a whole episode, and for one call of one model.
    max_retries: further attempts after a failed call.
    presets: name -> cost_weight (lambda; 0 = quality alone), served as the models `xrouter:<name>`.
    reference_model: what savings are measured against; None = the pool's most capable model.
    endpoints: further endpoints, or whole replacements of the catalog's own.
    models: the raw [models.<name>] tables; `catalog` checks and merges them.
    access: who may use the gateway, and how much; the table of this name, described in `settings_tables/access.py`.
    cache, observability, guardrails: the tables of these names, described in `settings_tables`.
    fallbacks: model of the pool -> those to be asked after it, in order, when it is asked for by name and fails.
    upstream: how endpoints are talked to; the table of this name, described in `settings_tables/upstream.py`.
    router_llm: the model that decides in the policy `tool-calling`; described in `settings_tables/router_llm.py`.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    policy: str | None = None
    pool: tuple[str, ...] | None = None
    ledger: Path | str = field(default_factory=lambda: default_ledger(os.environ))
    state: str | None = None
    max_body_bytes: int = 10 * 1024 * 1024
    request_timeout_s: float = 600.0
    call_timeout_s: float = 120.0
    max_turns: int = 3
    max_retries: int = 2
    max_concurrency_per_model: int = 16
    presets: Mapping[str, float] = field(default_factory=lambda: DEFAULT_PRESETS)
    default_preset: str = "balanced"
    reference_model: str | None = None
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    access: AccessSettings = field(default_factory=AccessSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    observability: ObservabilitySettings = field(default_factory=ObservabilitySettings)
    guardrails: GuardrailSettings = field(default_factory=GuardrailSettings)
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    router_llm: RouterLLMSettings = field(default_factory=RouterLLMSettings)
    file: Path | None = None
    """The file that was read, for messages; not a key."""


def default_ledger(env: Mapping[str, str]) -> Path:
    """ledger.sqlite under the XDG data folder."""
    data = env.get("XDG_DATA_HOME", "")
    base = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    return base / "xrouter" / "ledger.sqlite"


def load_settings(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Raises ConfigurationError naming file, key, value and the nearest valid key; also where a file that was
    asked for does not exist."""
    env = os.environ if env is None else env
    file = _find_file(path, env)
    table = {} if file is None else _read_toml(file)
    values = Reader(str(file), table).read(_READERS)
    values.setdefault("ledger", default_ledger(env))
    values["presets"] = {**DEFAULT_PRESETS, **values.get("presets", {})}
    values.update(_from_environment(env))
    settings = Settings(**values, file=file)
    if settings.default_preset not in settings.presets:
        raise ConfigurationError(
            f"{file}: default_preset = {settings.default_preset!r} is not one of the presets "
            f"{', '.join(settings.presets)}{nearest(settings.default_preset, settings.presets)}",
            param="default_preset",
        )
    return settings


def _variable(reader: Reader, key: str) -> str:
    value = reader.text(key)
    if not _VARIABLE.fullmatch(value):
        raise reader.wrong(
            key, "the name of an environment variable such as OPENAI_API_KEY, not the key itself"
        )
    return value


def _weights(reader: Reader, key: str) -> dict[str, float]:
    inner = reader.subtable(key)
    return {name: number(0)(inner, name) for name in inner.table}


def read_endpoint(reader: Reader) -> Endpoint:
    """One endpoint table. Raises ConfigurationError where `base_url` is missing or is no URL."""
    endpoint = Endpoint(**reader.read(_ENDPOINT_READERS))
    if endpoint.kind == "openai" and not (endpoint.base_url or "").startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{reader.file}: {reader.dotted('base_url')} must be a URL such as https://host/v1, "
            f"got {endpoint.base_url!r}",
            param=reader.dotted("base_url"),
        )
    return endpoint


def _endpoints(reader: Reader, key: str) -> dict[str, Endpoint]:
    return {name: read_endpoint(inner) for name, inner in reader.subtables(key).items()}


def _raw_models(reader: Reader, key: str) -> dict[str, Mapping[str, Any]]:
    return {name: inner.table for name, inner in reader.subtables(key).items()}


def _fallbacks(reader: Reader, key: str) -> dict[str, tuple[str, ...]]:
    inner = reader.subtable(key)
    return {name: inner.texts(name) for name in inner.table}


_ENDPOINT_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "base_url": Reader.text,
    "key_env": _variable,
    "kind": one_of(*get_args(EndpointKind)),
    "headers": Reader.text_map,
}
_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "host": Reader.text,
    "port": whole(0, 65535),
    "policy": Reader.text,
    "pool": Reader.texts,
    "ledger": read_ledger,
    "state": read_state,
    "max_body_bytes": whole(1),
    "request_timeout_s": number(0, above=True),
    "call_timeout_s": number(0, above=True),
    "max_turns": whole(1),
    "max_retries": whole(0),
    "max_concurrency_per_model": whole(1),
    "presets": _weights,
    "default_preset": Reader.text,
    "reference_model": Reader.text,
    "endpoints": _endpoints,
    "models": _raw_models,
    "access": read_access,
    "cache": read_cache,
    "observability": read_observability,
    "guardrails": read_guardrails,
    "fallbacks": _fallbacks,
    "upstream": read_upstream,
    "router_llm": read_router_llm,
}
_FROM_ENVIRONMENT = ("host", "port", "policy", "ledger", "state")


def _find_file(path: Path | None, env: Mapping[str, str]) -> Path | None:
    asked, by = (path, "") if path else (env.get("XROUTER_CONFIG"), " (set by XROUTER_CONFIG)")
    if asked:
        file = Path(asked).expanduser()
        if not file.is_file():
            raise ConfigurationError(
                f"there is no settings file {file}{by}: create it or leave it out", param="config"
            )
        return file
    default = Path("xrouter.toml")
    return default if default.is_file() else None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    table: dict[str, Any] = {
        key: value for key in _FROM_ENVIRONMENT if (value := env.get(f"XROUTER_{key.upper()}"))
    }
    if table.get("port", "").isdecimal():
        table["port"] = int(table["port"])
    return Reader("the environment (XROUTER_*)", table).read(_READERS)

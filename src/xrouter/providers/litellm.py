"""Everything LiteLLM speaks (Anthropic, Bedrock, Vertex, Cohere, ...), through its Python library.

The library is imported on the first call, on a thread, because the import takes seconds. The model's `id` is
LiteLLM's own name for it, e.g. "anthropic/claude-sonnet-4-5". A parameter that LiteLLM knows its target to
lack is an error, never dropped. LiteLLM takes its own controls (api_base, fallbacks, callbacks, ...) among the
parameters of a call, so those that a client may set are a list of known names.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from ..catalog.model import Model
from ..errors import (
    ConfigurationError,
    ProviderError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from ..messages import Chunk, Completion, Request
from .openai_body import StreamReader, completion_of
from .upstream_errors import class_of_status, excerpt, retry_after_s

CLIENT_PARAMS = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)


# LiteLLM's own time-out comes after ours, so that ours decides which error it is.
LIBRARY_GRACE_S = 5.0


class LiteLLMProvider:
    """One key and base URL for all models that name this provider; without them LiteLLM reads its own
    environment variables (ANTHROPIC_API_KEY, ...).

    options: passed to every `litellm.acompletion`, e.g. {"aws_region_name": "eu-west-1"}.
    allow_params: request fields that a client may set beside CLIENT_PARAMS; any other is a
        ProviderRequestError.
    Raises ConfigurationError where litellm is not installed.
    """

    def __init__(
        self,
        name: str = "litellm",
        *,
        api_key: str | None = None,
        api_base: str | None = None,
        options: Mapping[str, Any] | None = None,
        allow_params: Collection[str] = (),
    ) -> None:
        if importlib.util.find_spec("litellm") is None:
            raise ConfigurationError(
                f"provider {name!r} needs the litellm package: pip install 'xrouter[litellm]'"
            )
        self.name = name
        self._client_params = CLIENT_PARAMS | frozenset(allow_params)
        self._litellm: Any = None
        self._options = dict(options or {})
        self._secrets = tuple(
            value for value in (api_key, *self._options.values()) if isinstance(value, str) and value
        )
        if api_key:
            self._options["api_key"] = api_key
        if api_base:
            self._options["api_base"] = api_base

    def __repr__(self) -> str:
        return f"LiteLLMProvider({self.name!r})"

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError."""
        litellm = await self._library()
        arguments = self._arguments(model, request, timeout_s)
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await litellm.acompletion(**arguments)
        except TimeoutError as error:
            raise self._timed_out(model, timeout_s) from error
        except Exception as error:  # LiteLLM lets its backends' own exceptions through
            raise self._mapped(litellm, error, model) from error
        body = answer.model_dump(exclude_none=True)
        return completion_of(
            body,
            request,
            latency_s=time.monotonic() - started,
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
        )

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """Chunks as they come, the last one with usage. Raises ProviderError."""
        litellm = await self._library()
        reader = StreamReader(request, provider=self.name, model=model.name, secrets=self._secrets)
        arguments = self._arguments(model, request, timeout_s)
        arguments.update(stream=True, stream_options={"include_usage": True})
        pieces: Any = None
        try:
            while True:
                try:
                    async with asyncio.timeout(timeout_s):
                        if pieces is None:
                            pieces = await litellm.acompletion(**arguments)
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    self._check_end(pieces, model)
                    break
                except TimeoutError as error:
                    raise self._timed_out(model, timeout_s) from error
                except Exception as error:  # as in `complete`
                    raise self._mapped(litellm, error, model) from error
                yield reader.take_data(piece.model_dump(exclude_none=True))
            last = reader.finish()
            if last is not None:
                yield last
        finally:
            if pieces is not None:
                await pieces.aclose()

    async def aclose(self) -> None:
        """LiteLLM keeps its clients itself and closes them when the process ends."""

    async def _library(self) -> Any:
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(_load)
        return self._litellm

    def _arguments(self, model: Model, request: Request, timeout_s: float | None) -> dict[str, Any]:
        refused = sorted(set(request.params) - self._client_params)
        if refused:
            raise ProviderRequestError(
                f"provider {self.name!r} does not pass on {', '.join(refused)}: leave it out, or name it in the"
                " provider's allow_params",
                model=model.name,
            )
        arguments: dict[str, Any] = {
            **self._options,
            **request.params,
            "model": model.id,
            "messages": [dict(message) for message in request.messages],
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": False,
        }
        if timeout_s is not None:
            arguments["timeout"] = timeout_s + LIBRARY_GRACE_S
        if arguments.get("tools"):
            # Tools are the client's: LiteLLM is not to run any itself, nor to import its MCP gateway for it.
            arguments["_skip_mcp_handler"] = True
        return arguments

    def _check_end(self, pieces: Any, model: Model) -> None:
        """LiteLLM ends a stream that broke off with a finish_reason of its own; its wrapper knows better.

        Its own mocked streams never have one.
        """
        if "mock_response" in self._options:
            return
        seen = (
            getattr(pieces, name, "") for name in ("received_finish_reason", "intermittent_finish_reason")
        )
        if all(reason is None for reason in seen):
            raise ProviderResponseError(
                f"provider {self.name!r} ended its stream without finish_reason for model {model.name!r}",
                model=model.name,
            )

    def _mapped(self, litellm: Any, error: Exception, model: Model) -> ProviderError:
        kind: type[ProviderError] = ProviderResponseError
        status = getattr(error, "status_code", None)
        if isinstance(error, litellm.exceptions.Timeout):
            kind = ProviderTimeoutError
        elif isinstance(status, int) and not isinstance(error, litellm.exceptions.APIResponseValidationError):
            kind = class_of_status(status)
        response = getattr(error, "response", None)
        headers = getattr(error, "litellm_response_headers", None) or getattr(response, "headers", None)
        return kind(
            f"provider {self.name!r} failed for model {model.name!r} with {type(error).__name__}:"
            f" {excerpt(str(error), self._secrets)}",
            model=model.name,
            retry_after_s=retry_after_s(headers) if headers else None,
        )

    def _timed_out(self, model: Model, timeout_s: float | None) -> ProviderTimeoutError:
        limit = "in time" if timeout_s is None else f"within {timeout_s:g} s"
        return ProviderTimeoutError(
            f"provider {self.name!r} did not answer {limit} for model {model.name!r}", model=model.name
        )


def _load() -> Any:
    """The library, told to fetch and print nothing."""
    # Without it the import downloads a price list.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm

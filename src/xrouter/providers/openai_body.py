"""Bodies of the chat completions API: what a whole answer or a stream of chunks says. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ..catalog.model import Model
from ..errors import ProviderResponseError
from ..messages import Chunk, Completion, Request, Usage
from .embedder import EmbeddingRequest, Embeddings
from .shape import MAX_DEPTH, deeper_than, flaw
from .upstream_errors import error_of_object
from .usage import estimate_usage, usage_object, usage_of


def params_for(model: Model, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The client's fields, with `max_tokens` under the one name that OpenAI's own reasoning models take.

    A client of the policy, or of an API where the limit has another name, cannot know which model will read it.
    """
    if model.provider != "openai" or not model.reasoning or "max_tokens" not in params:
        return params
    limit = {"max_completion_tokens": params["max_tokens"]}
    return {**limit, **{name: value for name, value in params.items() if name != "max_tokens"}}


def json_object(body: bytes, *, provider: str, model: str) -> Mapping[str, Any]:
    """Raises ProviderResponseError unless `body` is a JSON object."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProviderResponseError(
            f"provider {provider!r} sent {len(body)} bytes that are no JSON for model {model!r}: {error}",
            model=model,
        ) from error
    if not isinstance(parsed, dict):
        raise ProviderResponseError(
            f"provider {provider!r} sent a JSON {type(parsed).__name__} where an object was due"
            f" for model {model!r}",
            model=model,
        )
    # Counting is cheap, and nearly nothing has so many.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and deeper_than(MAX_DEPTH, parsed):
        raise ProviderResponseError(
            f"provider {provider!r} sent JSON nested deeper than {MAX_DEPTH} levels for model {model!r}",
            model=model,
        )
    return parsed


def check_shape(data: Mapping[str, Any], *, provider: str, model: str) -> None:
    """Raises ProviderResponseError for a chat.completion object or chunk with a field of a wrong type."""
    at = flaw(data)
    if at is not None:
        raise ProviderResponseError(
            f"provider {provider!r} sent an answer whose {at} is of a wrong type for model {model!r}",
            model=model,
        )


def completion_of(
    body: Mapping[str, Any],
    request: Request,
    *,
    latency_s: float,
    provider: str,
    model: str,
    secrets: Iterable[str] = (),
) -> Completion:
    """A chat.completion object as a Completion; usage that is missing is estimated from the text.

    Raises ProviderResponseError for a body without a message, ProviderError for an error object.
    """
    if body.get("error"):
        raise error_of_object(body["error"], provider=provider, model=model, secrets=secrets)
    check_shape(body, provider=provider, model=model)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise ProviderResponseError(
            f"provider {provider!r} sent an answer without choices[0].message for model {model!r}",
            model=model,
        )
    return Completion(
        message=message,
        usage=usage_of(body.get("usage")) or estimate_usage(request, message),
        finish_reason=_text(choice.get("finish_reason")) or "stop",
        served_model=_text(body.get("model")),
        latency_s=latency_s,
        raw=body,
    )


def embeddings_of(
    body: Mapping[str, Any],
    request: EmbeddingRequest,
    *,
    latency_s: float,
    provider: str,
    model: str,
    secrets: Iterable[str] = (),
) -> Embeddings:
    """A list of embeddings; usage that is missing is taken at its bound.

    Raises ProviderResponseError for a body without them, ProviderError for an error object.
    """
    if body.get("error"):
        raise error_of_object(body["error"], provider=provider, model=model, secrets=secrets)
    if not isinstance(body.get("data"), list):
        raise ProviderResponseError(
            f"provider {provider!r} sent an answer without a list of embeddings for model {model!r}",
            model=model,
        )
    counted = body.get("usage")
    usage = usage_of({**counted, "completion_tokens": 0}) if isinstance(counted, Mapping) else None
    return Embeddings(body, usage or Usage(request.bound_tokens, estimated=True), latency_s)


class StreamReader:
    """Checks the chunks of one stream and knows whether the stream came to a proper end."""

    def __init__(self, request: Request, *, provider: str, model: str, secrets: Iterable[str] = ()) -> None:
        self._request = request
        self._provider = provider
        self._model = model
        self._secrets = tuple(secrets)
        self._finished = False
        self._usage_seen = False
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[Any] = []
        self._last: Mapping[str, Any] | None = None

    def take_data(self, data: Mapping[str, Any]) -> Chunk:
        """The chunk of one chat.completion.chunk object. Raises ProviderError for an error object."""
        if data.get("error"):
            raise error_of_object(
                data["error"], provider=self._provider, model=self._model, secrets=self._secrets
            )
        check_shape(data, provider=self._provider, model=self._model)
        usage = usage_of(data.get("usage"))
        self._usage_seen = self._usage_seen or usage is not None
        self._note(data)
        self._last = data
        return Chunk(data, usage)

    def finish(self) -> Chunk | None:
        """To be called at the end: a chunk of estimated usage where the upstream sent none.

        Raises ProviderResponseError when the stream ended before its time.
        """
        if self._last is None:
            raise self._broken("without a single chunk")
        if not self._finished:
            raise self._broken("without finish_reason")
        return None if self._usage_seen else self._estimate()

    def _note(self, data: Mapping[str, Any]) -> None:
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, Mapping):
                continue
            if choice.get("finish_reason"):
                self._finished = True
            delta = choice.get("delta")
            if self._usage_seen or not isinstance(delta, Mapping):
                continue
            for name, pieces in (("content", self._text), ("reasoning_content", self._reasoning)):
                piece = delta.get(name)
                if isinstance(piece, str):
                    pieces.append(piece)
            if isinstance(delta.get("tool_calls"), list):
                self._tool_calls.extend(delta["tool_calls"])

    def _estimate(self) -> Chunk:
        message = {
            "content": "".join(self._text),
            "reasoning_content": "".join(self._reasoning),
            "tool_calls": self._tool_calls,
        }
        usage = estimate_usage(self._request, message)
        last = self._last or {}
        data = {
            "id": last.get("id", ""),
            "object": "chat.completion.chunk",
            "created": last.get("created", int(time.time())),
            "model": last.get("model", self._model),
            "choices": [],
            "usage": usage_object(usage),
        }
        return Chunk(data, usage)

    def _broken(self, how: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self._provider!r} ended its stream {how} for model {self._model!r}",
            model=self._model,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

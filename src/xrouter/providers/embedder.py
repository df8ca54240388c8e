"""The protocol of endpoints that give embeddings, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..catalog.model import Model
from ..errors import ProviderRequestError
from ..messages import Usage
from .usage import estimate_tokens

SPECIAL_TOKENS = 2
"""What a tokenizer may put around a text: a beginning and an end."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """`input` as OpenAI's API has it: a text, texts, the tokens of one, or lists of tokens. `params`: all else."""

    input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bound_tokens(self) -> int:
        """A number of tokens that the input does not exceed: one for each byte of a text, and the special ones."""
        return _bound(self.input)

    @property
    def expected_tokens(self) -> int:
        """About how many tokens the input is."""
        return _expected(self.input)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`raw` is the endpoint's whole body: the vectors are neither read nor changed here. `latency_s` in seconds.

    endpoint: which of the model's endpoints answered; None where it has only one.
    """

    raw: Mapping[str, Any]
    usage: Usage
    latency_s: float = 0.0
    endpoint: str | None = None


@runtime_checkable
class Embedder(Protocol):
    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """Raises ProviderError and nothing else on purpose. `timeout_s` bounds the whole call."""
        ...


def embedder_of(provider: object, model: Model) -> Embedder:
    """The model's provider. Raises ProviderRequestError where its kind gives no embeddings."""
    if not isinstance(provider, Embedder):
        raise ProviderRequestError(
            f"model {model.name!r}: the endpoint {model.provider!r} gives no embeddings", model=model.name
        )
    return provider


def _expected(value: Any) -> int:
    if isinstance(value, str):
        return estimate_tokens(value)
    return sum(1 if isinstance(item, int) else _expected(item) for item in value)


def _bound(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass")) + SPECIAL_TOKENS
    return sum(1 if isinstance(item, int) else _bound(item) for item in value)

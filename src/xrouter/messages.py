"""What goes to a model and what comes back.

Messages stay in OpenAI's own shape from the socket to the provider: fields nobody here knows about
reach the model untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from .errors import RequestError

Message = Mapping[str, Any]
"""One chat message in OpenAI's shape: role, content (text or parts), tool_calls, ..."""


def text_of(content: Any) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def arguments_text(value: Any) -> str:
    """The arguments of a tool call as JSON text; some upstreams give them as an object instead."""
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True)
class Request:
    """A chat request: the conversation and every other body field (`params`) as the client sent it.

    `params` never holds `model`, `messages`, `stream` or `stream_options`: those belong to the gateway.

    headers: sent to the upstream with this request (`traceparent`, ...); never those that a provider sets itself.
    affinity: requests with the same one go to the same of a model's endpoints as long as it is healthy, so that
        its prompt cache stays warm; None = any.
    side_calls: a list to which providers append every call that was made beside the one whose answer they hand
        over, whatever the end; None = nobody books them.
    worked_out: what others derive from the request and keep beside it, by the type of what is kept.
    """

    messages: tuple[Message, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    affinity: str | None = None
    side_calls: list[SideCall] | None = field(default=None, repr=False, compare=False)
    worked_out: dict[type, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_text(cls, text: str, **params: Any) -> Request:
        return cls(messages=({"role": "user", "content": text},), params=params)

    @classmethod
    def from_messages(cls, messages: Sequence[Message], **params: Any) -> Request:
        """Raises RequestError naming the field when `messages` is empty or malformed."""
        if not isinstance(messages, (list, tuple)) or not messages:
            raise RequestError("messages must be a non-empty list of chat messages", param="messages")
        for i, message in enumerate(messages):
            if not isinstance(message, Mapping):
                raise RequestError(f"messages[{i}] must be an object with a role", param=f"messages[{i}]")
            if not isinstance(message.get("role"), str):
                raise RequestError(
                    f"messages[{i}].role must be a string such as 'user'",
                    param=f"messages[{i}].role",
                )
            content = message.get("content")
            if content is not None and not isinstance(content, (str, list)):
                raise RequestError(
                    f"messages[{i}].content must be a string or a list of parts, got {type(content).__name__}",
                    param=f"messages[{i}].content",
                )
        return cls(messages=tuple(messages), params=params)

    @property
    def query(self) -> str:
        """The last user message's text: what a policy reads first."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return text_of(message.get("content"))
        return ""

    @property
    def text(self) -> str:
        """All text of the conversation, for length estimates."""
        return "\n".join(text_of(message.get("content")) for message in self.messages)

    @property
    def max_output_tokens(self) -> int | None:
        """The client's own output limit, under either of OpenAI's names for it.

        Of both the larger: which of them a model heeds is its own affair.
        """
        given = (self.params.get(name) for name in ("max_completion_tokens", "max_tokens"))
        limits = [value for value in given if isinstance(value, int) and not isinstance(value, bool)]
        return max(limits, default=None)

    def with_system_prompt(self, prompt: str) -> Request:
        """This request with `prompt` put before the conversation; the user's own system prompt stays."""
        return replace(self, messages=({"role": "system", "content": prompt}, *self.messages))

    def noting_side_calls(self) -> Request:
        """The same request with an empty list for side calls of its own."""
        noting = Request(self.messages, self.params, self.headers, self.affinity, [])
        noting.worked_out.update(self.worked_out)
        return noting

    def with_params(self, **params: Any) -> Request:
        return replace(self, params={**self.params, **params})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `cached_tokens` is part of `prompt_tokens`, `reasoning_tokens` of `completion_tokens`.

    `estimated` marks counts that the upstream did not report.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class SideCall:
    """A call that was made and may be charged for, but whose answer nobody gets (the slower one of a hedged pair).

    endpoint: which of the model's endpoints was asked; None = not known, or the model has only one.
    latency_s: seconds until it was given up.
    """

    usage: Usage
    latency_s: float
    error: str
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One model's whole answer.

    message: the assistant message in OpenAI's shape (content, tool_calls, ...).
    served_model: the id the upstream says it served; it decides nothing, prices follow the pool's model.
    raw: the upstream's whole body, so that fields such as logprobs survive.
    answer: the normalised final answer where a recording knows it; otherwise None and `episodes.answers` reads it.
    endpoint: which of the model's endpoints answered (`catalog.model.Model.price_at` knows its price); None where
        the model has only one.
    """

    message: Message
    usage: Usage
    finish_reason: str = "stop"
    served_model: str | None = None
    latency_s: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict)
    answer: str | None = None
    endpoint: str | None = None

    @property
    def text(self) -> str:
        return text_of(self.message.get("content"))

    @property
    def tool_calls(self) -> Sequence[Mapping[str, Any]]:
        return self.message.get("tool_calls") or ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a streamed answer. `data` is OpenAI's chat.completion.chunk object.

    `usage` is set on the piece that carries it (the last one, as a rule).
    """

    data: Mapping[str, Any]
    usage: Usage | None = None


class Block:
    """What one read of a stream brought: one piece of the answer or several, as they came off the wire.

    raw: whole events, each `data: <JSON object on one line>` and a blank line; no comments, no [DONE], no
        errors. It can be sent on as it is.
    pieces: the same events, read: each one's object and the usage in it.
    usage: the last counts among them. finished: one of them names a finish_reason.
    text: of a block that is one event and says nothing but more text of the first choice; None of any other.
    """

    __slots__ = ("_pieces", "finished", "raw", "text", "usage")

    def __init__(
        self,
        raw: bytes,
        pieces: Sequence[tuple[Mapping[str, Any], Usage | None]] | None,
        usage: Usage | None = None,
        *,
        finished: bool = False,
        text: str | None = None,
    ) -> None:
        """pieces: None = read from `raw` once somebody wants them."""
        self.raw = raw
        self.usage = usage
        self.finished = finished
        self.text = text
        self._pieces = pieces

    @property
    def pieces(self) -> Sequence[tuple[Mapping[str, Any], Usage | None]]:
        if self._pieces is None:
            lines = self.raw.split(b"\n\n")[:-1]
            self._pieces = [(orjson.loads(line.removeprefix(b"data: ")), None) for line in lines]
        return self._pieces

    @property
    def chunks(self) -> list[Chunk]:
        return [Chunk(data, usage) for data, usage in self.pieces]

    @classmethod
    def of(cls, chunk: Chunk) -> Block:
        """The block of a piece that was never on a wire."""
        raw = b"data: " + orjson.dumps(chunk.data) + b"\n\n"
        return cls(raw, ((chunk.data, chunk.usage),), chunk.usage, finished=_finishes(chunk.data))

    def __repr__(self) -> str:
        return f"Block({len(self.pieces)} pieces, usage={self.usage!r}, finished={self.finished})"


def _finishes(data: Mapping[str, Any]) -> bool:
    choices = data.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, Mapping) and choice.get("finish_reason") for choice in choices
    )

"""Requests to the router as the tokens that a server would make of them with the model's own chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...errors import ConfigurationError
from ...messages import Message, Request


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def encode(self, text: str, **options: Any) -> list[int]: ...

    def decode(self, token_ids: Any, **options: Any) -> Any: ...


class ChatTemplate:
    """Writes prompts, replies and what stands between them.

    A conversation grows by tokens alone: a reply stays as it was sampled, and what came of it follows. Rendering the
    whole again would write a reply in other words than the model's own.
    stop_ids: tokens that end a reply; the first one is written where a reply was cut before it.
    """

    def __init__(self, tokenizer: Tokenizer, stop_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.stop_ids = tuple(stop_ids)
        self._stop_texts = [tokenizer.decode([stop]) for stop in stop_ids]

    def prompt(self, request: Request) -> list[int]:
        return self._encoded(self._rendered(request.messages, request, prompting=True))

    def reply(self, request: Request, message: Message) -> list[int]:
        """The tokens with which a model would say this message, the one that ends it included."""
        before = self._rendered(request.messages, request, prompting=True)
        after = self._rendered((*request.messages, message), request, prompting=False)
        if not after.startswith(before):
            raise ConfigurationError(
                "the model's chat template writes an assistant's message otherwise than after its generation prompt, "
                "so that what it should say cannot be cut out: use another template",
                param="trl.model",
            )
        end = self._last_stop(after)
        return self._encoded(after[len(before) : None if end is None else end])

    def following(self, before: Request, after: Request, *, ended: bool) -> list[int]:
        """The tokens between a reply to `before` and the next one: the end of its message, what came of it, and the
        start of the next. `ended`: the reply ended itself, so that its end is not to be written again.

        Raises ConfigurationError for a template that writes earlier messages otherwise once others follow.
        """
        replied = after.messages[: len(before.messages) + 1]
        so_far = self._rendered(replied, after, prompting=False)
        whole = self._rendered(after.messages, after, prompting=True)
        end = self._last_stop(so_far)
        start = len(so_far) if end is None else end
        if whole[:start] != so_far[:start]:
            raise ConfigurationError(
                "the model's chat template writes a conversation otherwise once a message follows, so that its turns "
                "are no single sequence of tokens: use a template that only adds",
                param="trl.model",
            )
        closing = [self.stop_ids[0]] if not ended and end is not None else []
        return closing + self._encoded(whole[start:])

    def text(self, ids: Sequence[int]) -> str:
        """A reply's text as a server hands it over: without the token that ended it and other special ones."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _rendered(self, messages: Sequence[Message], request: Request, *, prompting: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [_as_templates_want(message) for message in messages],
                tools=request.params.get("tools"),
                add_generation_prompt=prompting,
                tokenize=False,
            )
        )

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _last_stop(self, text: str) -> int | None:
        """Where the last token that ends a message ends; None where the template writes none."""
        ends = [found + len(stop) for stop in self._stop_texts if (found := text.rfind(stop)) >= 0]
        return max(ends, default=None)


def _as_templates_want(message: Message) -> Mapping[str, Any]:
    """Arguments as objects and content as text: what servers make of OpenAI's form before they fill in a template."""
    shown = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        shown["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return shown


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}

"""OpenAI's chat completions: the core's own language, so nothing is translated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import XRouterError
from .reply import error_object
from .stream import DONE, event
from .wire import Chat, parse_chat


class ChatApi:
    path = "/v1/chat/completions"
    request_id_header = "x-request-id"

    def parse(self, body: bytes) -> ChatExchange:
        return ChatExchange(parse_chat(body))

    def error(self, error: XRouterError, request_id: str) -> dict[str, Any]:
        return error_object(error)


@dataclass(frozen=True, slots=True)
class ChatExchange:
    chat: Chat

    def whole(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        return dict(completion)

    def stream(self) -> ChatStream:
        return ChatStream()


class ChatStream:
    """Each chunk as one event. It comes as the client asked for it: with or without usage."""

    verbatim = True

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        return event(chunk)

    def finish(self) -> bytes:
        return DONE

    def error(self, error: XRouterError, request_id: str) -> bytes:
        return event(error_object(error))


CHAT = ChatApi()

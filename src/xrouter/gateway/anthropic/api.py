"""Anthropic's Messages API in front of the same core as chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import XRouterError
from ..wire import Chat
from .reply import error_body, message
from .request import Asked, parse
from .stream import MessageStream


class MessagesApi:
    path = "/v1/messages"
    request_id_header = "request-id"

    def parse(self, body: bytes) -> MessageExchange:
        return MessageExchange(parse(body))

    def error(self, error: XRouterError, request_id: str) -> dict[str, Any]:
        return error_body(error, request_id)


@dataclass(frozen=True, slots=True)
class MessageExchange:
    asked: Asked

    @property
    def chat(self) -> Chat:
        return self.asked.chat

    def whole(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        return message(self.asked, completion)

    def stream(self) -> MessageStream:
        return MessageStream(self.asked)


MESSAGES = MessagesApi()

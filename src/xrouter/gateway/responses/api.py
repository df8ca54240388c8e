"""OpenAI's Responses API in front of the same core as chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import XRouterError
from ..reply import error_object
from ..wire import Chat
from .reply import response
from .request import Asked, parse
from .stream import ResponseStream


class ResponsesApi:
    path = "/v1/responses"
    request_id_header = "x-request-id"

    def parse(self, body: bytes) -> ResponseExchange:
        return ResponseExchange(parse(body))

    def error(self, error: XRouterError, request_id: str) -> dict[str, Any]:
        return error_object(error)


@dataclass(frozen=True, slots=True)
class ResponseExchange:
    asked: Asked

    @property
    def chat(self) -> Chat:
        return self.asked.chat

    def whole(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        return response(self.asked, completion)

    def stream(self) -> ResponseStream:
        return ResponseStream(self.asked)


RESPONSES = ResponsesApi()

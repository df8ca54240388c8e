"""What the gateway needs of an API that it speaks. Behind each there is the same core: a `Chat` in, chat completions out.

An API's files only translate: no I/O, no state but that of one stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import XRouterError
from .wire import Chat


class Translator(Protocol):
    """One stream: chat.completion.chunk objects in, the bytes of the API's server-sent events out.

    `feed` each chunk in turn, then `finish`; or, once the stream has begun, `error` and nothing after it. The last
    chunk may carry `xrouter`; usage comes on any chunk. What is not known before the end (usage, the reason to
    stop) is only said by `finish`. verbatim: a chunk's own event is what is said of it, so its bytes may pass as they are.
    """

    @property
    def verbatim(self) -> bool: ...

    def feed(self, chunk: Mapping[str, Any]) -> bytes: ...

    def finish(self) -> bytes: ...

    def error(self, error: XRouterError, request_id: str) -> bytes: ...


class Exchange(Protocol):
    """One checked request, and how its answer is said."""

    @property
    def chat(self) -> Chat: ...

    def whole(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        """The API's object for a chat.completion object that `reply.chat_completion` made."""
        ...

    def stream(self) -> Translator: ...


class Api(Protocol):
    """path: where it is POSTed to. request_id_header: where its clients look for the id of a request."""

    @property
    def path(self) -> str: ...

    @property
    def request_id_header(self) -> str: ...

    def parse(self, body: bytes) -> Exchange:
        """Raises RequestError naming the field at fault as this API names it."""
        ...

    def error(self, error: XRouterError, request_id: str) -> dict[str, Any]:
        """The body of an answer that is an error; its status is the error's own."""
        ...

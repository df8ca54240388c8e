"""Server-sent events from bytes, incrementally. No I/O.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html, but for one thing: an event that the
end of the stream cuts short is handed over by `finish` instead of dropped, because some upstreams omit the
last blank line. `id` and `retry` are left out: nothing here reconnects.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ProviderResponseError

DEFAULT_MAX_LINE_BYTES = 4 * 1024 * 1024
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SSEEvent:
    """`data` is the data lines joined by newlines; `event` is the event's name, empty as a rule."""

    data: bytes
    event: bytes = b""

    @property
    def is_done(self) -> bool:
        """OpenAI's end mark."""
        return self.data.strip() == b"[DONE]"


class SSEParser:
    """Feed it bytes split anywhere, get whole events.

    Raises ProviderResponseError when one line, or the data of one event, is longer than `max_line_bytes`.
    """

    def __init__(self, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES) -> None:
        self._max_bytes = max_line_bytes
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = b""
        self._at_start = True
        self._skip_lf = False

    @property
    def between_events(self) -> bool:
        """Whether nothing is pending: what comes next begins a new event."""
        return not (self._partial or self._data or self._event or self._skip_lf)

    def feed(self, chunk: bytes) -> list[SSEEvent]:
        """The events that these bytes complete."""
        if not chunk:
            return []
        if self._skip_lf:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        lines = chunk.splitlines(keepends=True)
        if not lines:
            return []
        if self._partial or not lines[0].endswith((b"\n", b"\r")):
            self._partial += lines[0]
            if not lines[0].endswith((b"\n", b"\r")):
                self._check_size(len(self._partial))
                return []
            lines[0] = bytes(self._partial)
            self._partial.clear()
        if not lines[-1].endswith((b"\n", b"\r")):
            self._partial += lines.pop()
            self._check_size(len(self._partial))
        elif lines[-1].endswith(b"\r"):
            self._skip_lf = True  # the other half of a CRLF may come with the next bytes
        events = []
        for line in lines:
            event = self._take(line.rstrip(b"\r\n"))
            if event is not None:
                events.append(event)
        return events

    def finish(self) -> list[SSEEvent]:
        """The event that the end of the stream cut short, if any."""
        events = self.feed(b"\n") if self._partial else []
        last = self._dispatch()
        return events if last is None else [*events, last]

    def _take(self, line: bytes) -> SSEEvent | None:
        self._check_size(len(line))
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value)
            self._check_size(self._data_bytes)
            self._data.append(value)
        elif name == b"event":
            self._event = value
        return None

    def _dispatch(self) -> SSEEvent | None:
        data, event = b"\n".join(self._data), self._event
        self._data.clear()
        self._data_bytes = 0
        self._event = b""
        return SSEEvent(data, event) if data else None

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise ProviderResponseError(
                f"the upstream's event stream has a line or event of more than {self._max_bytes} bytes"
            )

"""The [observability] table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..toml_reader import Reader, one_of, whole

LogFormat = Literal["json", "text", "off"]


@dataclass(frozen=True, slots=True)
class ObservabilitySettings:
    """What can be seen of a gateway from outside. Content is kept nowhere unless `store_prompts` or
    `capture_content` says so.

    metrics: /metrics in Prometheus' text format.
    log: one line a request on standard error.
    tracing: OpenTelemetry spans, sent where the OTEL_* variables say (the extra `otel`).
    capture_content: prompts and answers become attributes of the spans.
    redact: dotted path of a function text -> text, applied to every text before it is stored or captured.
    store_prompts: a JSONL file of requests and answers; it is rotated at `store_max_bytes`, and the last `store_files`
        old ones are kept.
    """

    metrics: bool = True
    log: LogFormat = "off"
    tracing: bool = False
    capture_content: bool = False
    redact: str | None = None
    store_prompts: Path | None = None
    store_max_bytes: int = 100 * 1024 * 1024
    store_files: int = 5


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "metrics": Reader.flag,
    "log": one_of(*get_args(LogFormat)),
    "tracing": Reader.flag,
    "capture_content": Reader.flag,
    "redact": Reader.text,
    "store_prompts": Reader.path,
    "store_max_bytes": whole(1),
    "store_files": whole(1),
}


def read_observability(reader: Reader, key: str) -> ObservabilitySettings:
    return ObservabilitySettings(**reader.subtable(key).read(_READERS))

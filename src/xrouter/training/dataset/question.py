"""A question on its way into the data, before it has a pool."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from hashlib import sha256

from ...messages import Request
from ...tasks.task import Task

_WRAPPING = ' .?"“”。？…'


@dataclass(frozen=True, slots=True)
class Question:
    """source: as the recipe names it. trivial: to be answered directly, without any call.

    pass_rate: 0..1, where it is known already. recorded: the models whose answers are recorded; None = it comes from no
    recording.
    """

    task: Task
    source: str
    ability: str
    trivial: bool = False
    pass_rate: float | None = None
    recorded: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        return question_key(self.task.request)


def question_key(request: Request) -> str:
    """Equal for two conversations that differ in case, white space, Unicode form or closing punctuation alone."""
    text = unicodedata.normalize("NFKC", request.text).casefold()
    return sha256(" ".join(text.split()).strip(_WRAPPING).encode("utf-8", "replace")).hexdigest()


def share_of(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts: the same on every machine."""
    digest = sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56

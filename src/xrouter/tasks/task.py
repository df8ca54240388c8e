"""A request plus the means to grade its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ..messages import Request


@dataclass(frozen=True, slots=True)
class Task:
    """One question with a known answer.

    id: unique, and the same wherever the same question of the same data set turns up (see `task_id`).
    dataset: benchmark/part, for reports; no policy ever sees it.
    grader: a name of `graders.GRADERS`, or module:function of a grader of one's own.
    reference: the right answer in the form that the grader reads.
    meta: whatever else the grader needs.
    """

    id: str
    dataset: str
    request: Request
    grader: str
    reference: str
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(
        cls, dataset: str, prompt: str, grader: str, reference: str, meta: Mapping[str, Any] | None = None
    ) -> Task:
        """A task of one user message, its id derived from the data set and the prompt."""
        return cls(
            task_id(dataset, prompt), dataset, Request.from_text(prompt), grader, reference, meta or {}
        )


def task_id(dataset: str, prompt: str) -> str:
    """The data set's name and a digest of the prompt: a repeated question cannot land in both splits."""
    return f"{dataset}/{sha256(prompt.encode()).hexdigest()[:16]}"

"""Recorded outcomes as a world: calls cost nothing, scores are those of the recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..catalog.model import Model
from ..episodes.episode import Episode
from ..errors import DataError
from ..messages import Usage
from ..providers.pool import Pool
from ..providers.replay import Recording as RecordedCall
from ..providers.replay import ReplayProvider
from .grading import Grading
from .outcomes import Outcomes
from .responses import Responses
from .task import Task

UNRECORDED = "(what the model said\nis not recorded)"
"""What a call says whose recording holds neither text nor answer. Worded so that no answer is read in it and two of them
do not count as saying the same (`episodes.answers`, `episodes.similarity`)."""


class RecordedWorld:
    """Every model says what it said, whatever its system prompt and temperature are now.

    responses: the texts; None = a model says no more than its recorded answer.
    tokens_per_s: a call takes as long as its output would at this speed; None = no time.
    An answer in the router's own words is graded by the task's grader, against its reference.
    """

    def __init__(
        self, outcomes: Outcomes, *, responses: Responses | None = None, tokens_per_s: float | None = None
    ) -> None:
        self.outcomes = outcomes
        self._calls = RecordedCalls(outcomes, responses, tokens_per_s)
        replay = ReplayProvider(self._calls, speed=None if tokens_per_s is None else 1.0)
        self._pool = Pool(outcomes.models, {"replay": replay})
        self._grading = Grading()

    @property
    def models(self) -> Sequence[Model]:
        return self._pool.models

    def knows(self, task: Task) -> bool:
        return task.request.query in self._calls.rows

    def pool(self, names: Sequence[str]) -> Pool:
        return self._pool.restricted_to(names)

    async def quality(self, task: Task, episode: Episode) -> float:
        """Raises DataError where the answer handed over was never scored, and as `Grading.grade` does."""
        answer = episode.completion
        if episode.answer_from is None:
            return await self._grading.grade(task, answer.text, answer.tool_calls)
        if answer.finish_reason == "length":
            return 0.0
        model = episode.answer_from.model
        score = float(self.outcomes.score_QM[self._calls.place(model, task.request.query)])
        if np.isnan(score):
            raise DataError(f"the recorded answer of {model!r} to task {task.id!r} has no score")
        return score

    def figures(self) -> Mapping[str, float]:
        return {}

    async def aclose(self) -> None:
        await self._grading.aclose()


class RecordedCalls(Mapping[tuple[str, str], RecordedCall]):
    """(model, prompt) -> what was recorded, made when it is asked for; of a prompt that was recorded twice the first."""

    def __init__(
        self,
        outcomes: Outcomes,
        responses: Responses | None = None,
        tokens_per_s: float | None = None,
    ) -> None:
        self._outcomes = outcomes
        self._responses = responses
        self._tokens_per_s = tokens_per_s
        self.rows: dict[str, list[int]] = {}
        for q, prompt in enumerate(outcomes.recording.prompts):
            self.rows.setdefault(prompt, []).append(q)
        self._column = {name: m for m, name in enumerate(outcomes.model_names)}

    def place(self, model: str, prompt: str) -> tuple[int, int]:
        """Row and column of the recorded call. Raises KeyError where there is none."""
        m, present_QM = self._column[model], self._outcomes.recording.present_QM
        for q in self.rows[prompt]:
            if present_QM[q, m]:
                return q, m
        raise KeyError((model, prompt))

    def __getitem__(self, key: tuple[str, str]) -> RecordedCall:
        (q, m), record = self.place(*key), self._outcomes.recording
        number = int(record.answer_QM[q, m])
        answer = None if number < 0 else record.answers[q][number]
        usage = Usage(int(record.prompt_tokens_QM[q, m]), int(record.tokens_QM[q, m]))
        text = None if self._responses is None else self._responses.text(q, m)
        seconds = 0.0 if self._tokens_per_s is None else usage.completion_tokens / self._tokens_per_s
        return RecordedCall(text or answer or UNRECORDED, usage, seconds, answer)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        record = self._outcomes.recording
        for prompt, rows in self.rows.items():
            for m in np.flatnonzero(record.present_QM[rows].any(0)):
                yield record.models[m].name, prompt

    def __len__(self) -> int:
        present_QM = self._outcomes.recording.present_QM
        return sum(int(present_QM[rows].any(0).sum()) for rows in self.rows.values())

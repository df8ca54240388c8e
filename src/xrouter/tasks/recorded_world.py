"""Recorded outcomes as a world: calls cost nothing and answer at once, scores are those of the recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..episodes.episode import Episode
from ..errors import DataError
from ..messages import Usage
from ..providers.pool import Pool
from ..providers.replay import Recording as RecordedCall
from ..providers.replay import ReplayProvider
from .graders import grade_completion
from .outcomes import Outcomes
from .task import Task

UNRECORDED = "(what the model said\nis not recorded)"
"""What a call says whose recording holds neither text nor answer. Worded so that no answer is read in it and two of them
do not count as saying the same (`episodes.answers`, `episodes.similarity`)."""


class RecordedWorld:
    """Every model says what it said, whatever its system prompt and temperature are now.

    An answer in the router's own words is graded by the task's grader, against its reference.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        calls = RecordedCalls(outcomes)
        self.outcomes = outcomes
        self._row, self._column = calls.row, calls.column
        self._pool = Pool(outcomes.models, {"replay": ReplayProvider(calls)})

    def pool(self, names: Sequence[str]) -> Pool:
        return self._pool.restricted_to(names)

    def quality(self, task: Task, episode: Episode) -> float:
        """Raises DataError where the answer handed over was never scored."""
        if episode.answer_from is None:
            return grade_completion(task, episode.completion)
        if episode.completion.finish_reason == "length":
            return 0.0
        model, query = episode.answer_from.model, task.request.query
        score = float(self.outcomes.score_QM[self._row[query], self._column[model]])
        if np.isnan(score):
            raise DataError(f"the recorded answer of {model!r} to task {task.id!r} has no score")
        return score

    async def aclose(self) -> None: ...


class RecordedCalls(Mapping[tuple[str, str], RecordedCall]):
    """(model, prompt) -> what was recorded, made when it is asked for."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self.row = {prompt: q for q, prompt in enumerate(outcomes.recording.prompts)}
        self.column = {name: m for m, name in enumerate(outcomes.model_names)}

    def __getitem__(self, key: tuple[str, str]) -> RecordedCall:
        model, prompt = key
        q, m, record = self.row[prompt], self.column[model], self._outcomes.recording
        if not record.present_QM[q, m]:
            raise KeyError(key)
        number = int(record.answer_QM[q, m])
        answer = None if number < 0 else record.answers[q][number]
        usage = Usage(int(record.prompt_tokens_QM[q, m]), int(record.tokens_QM[q, m]))
        return RecordedCall(answer or UNRECORDED, usage, answer=answer)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        record = self._outcomes.recording
        for q, m in np.argwhere(record.present_QM).tolist():
            yield record.models[m].name, record.prompts[q]

    def __len__(self) -> int:
        return int(self._outcomes.recording.present_QM.sum())

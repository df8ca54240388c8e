"""Where `xrouter distill` has a teacher's decisions from, and how teacher and student are set side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .router_contestant import Contender, RouterOptions, contender, drawn, gradable, weights_of

if TYPE_CHECKING:
    from ..evaluation.distill_report import DistillReport
    from ..evaluation.evaluate import Played, Progress
    from ..policies.network import NetworkPolicy
    from ..policies.states import ArrayPolicy
    from ..tasks.outcomes import Outcomes, Split

TIMED_QUERIES = 100


@dataclass(frozen=True, slots=True)
class TeacherOptions:
    teacher: str | None
    decisions: Path | None
    test_decisions: Path | None
    cost_weights: str
    limit_queries: int | None
    limit_test_queries: int | None
    max_turns: int
    seed: int
    router: RouterOptions


@dataclass(frozen=True, eq=False)
class Teacher:
    """title: what it is, for the report. policy, router: what can be asked; neither where only files are given."""

    title: str
    options: TeacherOptions
    chosen: Outcomes
    folder: Path
    policy: ArrayPolicy | None = None
    router: Contender | None = None

    def on_train(self, out: Path, progress: Progress) -> tuple[Outcomes, Played]:
        """What it decides on the train split."""
        return self._on("train", self.options.decisions, self.options.limit_queries, out, progress)

    def on_test(self, out: Path, progress: Progress) -> tuple[Outcomes, Played]:
        """What it decides on the test split; own words are graded."""
        return self._on("test", self.options.test_decisions, self.options.limit_test_queries, out, progress)

    def _on(
        self, split: Split, file: Path | None, limit: int | None, out: Path, progress: Progress
    ) -> tuple[Outcomes, Played]:
        from ..evaluation.decisions import play
        from ..evaluation.decisions_file import read_decisions
        from ..evaluation.evaluate import Played
        from ..evaluation.tool_calling.joined import joined
        from ..tasks.answer_key import load_answer_key

        part, options = self.chosen.split(split), self.options
        if file is not None:
            answers = _has_own_answers(file)
            key = load_answer_key(self.folder) if answers and split == "test" else None
            if key is not None:
                part, _ = gradable(part, key)
            part, decisions = read_decisions(file, drawn(part, limit, options.seed), key)
            return part, Played("from a file", decisions)
        if self.router is not None:
            if split == "test":
                part, _ = gradable(part, self.router.key)
            part = drawn(part, limit, options.seed)
            episodes = self.router.play(
                part, out / f"teacher-{split}", lambda done, total: progress(f"teacher, {split}", done, total)
            )
            decisions, figures = joined(episodes, part, self.router.key if split == "test" else None)
            return part, Played(self.router.policy.version, decisions, figures)
        assert self.policy is not None
        part = drawn(part, limit, options.seed)
        weights = weights_of(options.cost_weights)
        progress(f"teacher, {split}", 0, len(weights))
        played = play(self.policy, part.recording, part.query_ids, weights, options.max_turns)
        return part, Played(self.policy.version, played)


def open_teacher(options: TeacherOptions, chosen: Outcomes, folder: Path) -> Teacher:
    """folder: of the outcomes. Raises ConfigurationError where nobody can decide on one of the splits, or for a file that
    is not there."""
    from ..policies.checkpoint import TOOL_CALLING

    for name, file in (("--decisions", options.decisions), ("--test-decisions", options.test_decisions)):
        if file is not None and not file.is_file():
            raise ConfigurationError(f"{name} {file} is not there", param=name)
    if options.teacher == TOOL_CALLING or options.router.given:
        wanted = None if options.teacher is None else [options.teacher]
        _, router = contender(wanted, options.router, chosen, folder, options.max_turns)
        assert router is not None
        title = f"the language model {router.policy.model.name}, by tool calls"
        return Teacher(title, options, chosen, folder, router=router)
    if options.teacher is not None:
        from .evaluate import load_policies

        found = load_policies([options.teacher], chosen.split("train"), chosen.name, "test", options.seed)
        policy = next(iter(found.values()))
        title = f"{options.teacher}, the policy {policy.name} (version {policy.version})"
        return Teacher(title, options, chosen, folder, policy=policy)
    for name, file in (("--decisions", options.decisions), ("--test-decisions", options.test_decisions)):
        if file is None:
            raise ConfigurationError(
                f"nobody decides on the {'test' if 'test' in name else 'train'} split: give --teacher, or {name}",
                param=name,
            )
    return Teacher(f"the decisions in {options.decisions}", options, chosen, folder)


def report_of(
    teacher: Teacher,
    judged_on: Outcomes,
    played: Played,
    *,
    student: NetworkPolicy,
    profiles: NetworkPolicy,
    beside: NetworkPolicy | None,
    train: Outcomes,
    learnt: Mapping[str, Any],
    bootstrap: int,
    progress: Progress,
) -> DistillReport:
    """Plays the network policies where the teacher was played, and holds them against it."""
    from ..evaluation.decision_time import decision_times
    from ..evaluation.distill_report import PROFILES, STUDENT, TEACHER, DistillReport
    from ..evaluation.evaluate import evaluate
    from ..evaluation.imitation import agreement, differences

    seed, max_turns = teacher.options.seed, teacher.options.max_turns
    policies: dict[str, ArrayPolicy] = {STUDENT: student, PROFILES: profiles}
    if beside is not None:
        policies[f"network {beside.version}"] = beside
    queries = len(teacher.chosen.split("test"))
    found = evaluate(
        judged_on,
        policies=policies,
        train=train,
        cost_weights=played.decisions.cost_weights,
        max_turns=max_turns,
        seed=seed,
        bootstrap=bootstrap,
        with_baselines=False,
        played={TEACHER: played},
        drawn_from=queries if len(judged_on) < queries else 0,
        progress=progress,
    )
    progress("decision times", 0, 1)
    timed = {**policies, TEACHER: teacher.policy} if teacher.policy is not None else policies
    agreements, lost = {}, {}
    for name in policies:
        result = found.named(name)
        assert result is not None
        assert result.decisions is not None
        agreements[name] = agreement(played.decisions, result.decisions, bootstrap, seed)
        lost[name] = differences(played.decisions, result.decisions, judged_on, bootstrap, seed)
    times = decision_times(timed, judged_on.recording.prompts[:TIMED_QUERIES], judged_on.models)
    return DistillReport(found, teacher.title, agreements, lost, times, learnt)


def _has_own_answers(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return any('"own_answer"' in line for line in file)

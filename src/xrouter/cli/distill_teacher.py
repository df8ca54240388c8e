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
class Decided:
    """What a teacher decided on `part` of a split. drawn_from: how many queries `part` was drawn from, 0 = it is all of
    them. without_reference: queries left out since own words could not be graded there."""

    part: Outcomes
    played: Played
    drawn_from: int = 0
    without_reference: int = 0


@dataclass(frozen=True, eq=False)
class Teacher:
    """title: what it is, for the report. policy, router: what can be asked; neither where only files are given."""

    title: str
    options: TeacherOptions
    chosen: Outcomes
    folder: Path
    policy: ArrayPolicy | None = None
    router: Contender | None = None

    def on(self, split: Split, out: Path, progress: Progress) -> Decided:
        """What it decides on a split, from the file given for it or asked now; on test, own words are graded."""
        train = split == "train"
        file = self.options.decisions if train else self.options.test_decisions
        limit = self.options.limit_queries if train else self.options.limit_test_queries
        return self._asked(split, limit, out, progress) if file is None else self._read(split, file)

    def _read(self, split: Split, file: Path) -> Decided:
        from ..evaluation.decisions_file import read_decisions
        from ..evaluation.evaluate import Played
        from ..tasks.answer_key import load_answer_key

        key = load_answer_key(self.folder) if split == "test" and _has_own_answers(file) else None
        part, decisions = read_decisions(file, self.chosen.split(split), key)
        whole = len(self.chosen.split(split))
        return Decided(part, Played("from a file", decisions), whole if len(part) < whole else 0)

    def _asked(self, split: Split, limit: int | None, out: Path, progress: Progress) -> Decided:
        from ..evaluation.decisions import play
        from ..evaluation.evaluate import Played
        from ..evaluation.tool_calling.joined import joined

        part, without_reference = self.chosen.split(split), 0
        if self.router is not None and split == "test":
            part, without_reference = gradable(part, self.router.key)
        whole = len(part)
        part = drawn(part, limit, self.options.seed)
        drawn_from = whole if len(part) < whole else 0
        if self.router is not None:
            episodes = self.router.play(
                part, out / f"teacher-{split}", lambda done, total: progress(f"teacher, {split}", done, total)
            )
            key = self.router.key if split == "test" else None
            played = Played(self.router.policy.version, *joined(episodes, part, key))
            return Decided(part, played, drawn_from, without_reference)
        assert self.policy is not None
        weights = weights_of(self.options.cost_weights)
        progress(f"teacher, {split}", 0, len(weights))
        decisions = play(self.policy, part.recording, part.query_ids, weights, self.options.max_turns)
        return Decided(part, Played(self.policy.version, decisions), drawn_from)


def open_teacher(options: TeacherOptions, chosen: Outcomes, folder: Path) -> Teacher:
    """folder: of the outcomes. Raises ConfigurationError where nobody can decide on one of the splits, or for a file that
    is not there."""
    from ..policies.checkpoint import TOOL_CALLING

    for name, file, limit in (
        ("--decisions", options.decisions, options.limit_queries),
        ("--test-decisions", options.test_decisions, options.limit_test_queries),
    ):
        if file is not None and not file.is_file():
            raise ConfigurationError(f"{name} {file} is not there", param=name)
        if file is not None and limit is not None:
            raise ConfigurationError(
                f"{name} {file} says already which queries are decided on: leave out --limit-{'test-' if 'test' in name else ''}queries",
                param=name,
            )
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
    decided: Decided,
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
    judged_on, played = decided.part, decided.played
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
        drawn_from=decided.drawn_from,
        without_reference=decided.without_reference,
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

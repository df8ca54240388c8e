from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.errors import (
    ConfigurationError,
    DataError,
    ProviderAuthError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.providers.pool import Pool
from xrouter.tasks.arithmetic import generate
from xrouter.tasks.collection import Limits, bounded, collect, worst_cost
from xrouter.tasks.journal import Journal, Row
from xrouter.tasks.recorded import split_of, write_outcomes
from xrouter.tasks.task import Task

TASKS = generate(12, seed=0)
ANSWERS = {task.request.query: task.reference for task in TASKS}
USAGE = Usage(prompt_tokens=50, completion_tokens=10)
COST = Decimal("0.00007")  # (50 * 1 + 10 * 2) / 1e6 at the prices of make_model


class FakeProvider:
    """Answers as `answer` says and keeps what it was asked."""

    def __init__(self, answer: Callable[[Model, Request], str] | None = None) -> None:
        self.answer = answer or (lambda model, request: f"The answer is {ANSWERS[request.query]}.")
        self.asked: list[tuple[str, str]] = []
        self.requests: list[Request] = []
        self.under_way = self.most_under_way = 0

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked.append((request.query, model.name))
        self.requests.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.001)
            text = self.answer(model, request)
        finally:
            self.under_way -= 1
        return Completion({"role": "assistant", "content": text}, USAGE, latency_s=0.25)

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise AssertionError("collect does not stream")

    async def aclose(self) -> None: ...


def pool_of(provider: FakeProvider, *names: str, **fields: Any) -> Pool:
    return Pool(tuple(make_model(name, **fields) for name in names), {"mock": provider})


def limits(**fields: Any) -> Limits:
    return Limits(**{"max_cost_usd": Decimal(1), "concurrency": 4, **fields})


async def run(
    path: Path,
    provider: FakeProvider,
    *names: str,
    resume: bool = False,
    tasks: list[Task] = TASKS,
    **fields: Any,
) -> tuple[Any, list[Row], Decimal]:
    with Journal(path / "journal.jsonl", resume=resume) as journal:
        ended = await collect(tasks, pool_of(provider, *names), journal, limits(**fields))
        return ended, list(journal.rows), journal.spent_usd


async def test_asks_every_model_every_task_once_query_by_query(tmp_path: Path) -> None:
    provider = FakeProvider()
    ended, rows, spent = await run(tmp_path, provider, "a", "b", concurrency=1)
    assert provider.asked == [(task.request.query, name) for task in TASKS for name in ("a", "b")]
    assert (ended.asked, ended.failed, ended.stopped, ended.refused) == (24, 0, "done", ())
    assert spent == 24 * COST
    assert rows[0] == Row(
        TASKS[0].id, "a", COST, 50, 10, latency_s=0.25, text=f"The answer is {TASKS[0].reference}."
    )


async def test_concurrency_is_bounded_and_used(tmp_path: Path) -> None:
    provider = FakeProvider()
    await run(tmp_path, provider, "a", "b", concurrency=3)
    assert provider.most_under_way == 3


async def test_answers_are_bounded_unless_the_task_bounds_them(tmp_path: Path) -> None:
    provider = FakeProvider()
    own = Task("own", "d", Request.from_text(TASKS[0].request.query, max_completion_tokens=7), "numeric", "1")
    await run(tmp_path, provider, "a", tasks=[TASKS[0], own], max_output_tokens=99, concurrency=1)
    assert [dict(request.params) for request in provider.requests] == [
        {"max_tokens": 99},
        {"max_completion_tokens": 7},
    ]


def test_the_bound_goes_by_the_name_that_the_endpoint_knows_and_the_model_allows() -> None:
    request = Request.from_text("?")
    assert bounded(make_model(provider="openai"), request, 99).params == {"max_completion_tokens": 99}
    assert bounded(make_model(max_output_tokens=50), request, 99).params == {"max_tokens": 50}


def test_the_worst_case_is_never_under_the_real_cost() -> None:
    model = make_model()
    request = Request.from_text("日本 " * 100, max_tokens=1000)
    assert worst_cost(model, request) >= model.price.cost(Usage(700, 1000, reasoning_tokens=900))


class TestBudget:
    async def test_is_never_exceeded_and_ends_the_run(self, tmp_path: Path) -> None:
        most = worst_cost(make_model(), bounded(make_model(), TASKS[0].request, 100))
        budget = most + 3 * COST
        ended, rows, spent = await run(
            tmp_path, FakeProvider(), "a", max_cost_usd=budget, max_output_tokens=100
        )
        assert ended.stopped == "budget"
        assert 1 <= len(rows) < len(TASKS)
        assert spent <= budget
        assert spent == len(rows) * COST

    async def test_waits_for_calls_under_way_before_it_gives_up(self, tmp_path: Path) -> None:
        """Room for one worst case at a time, but for all the real costs: every call is made."""
        most = max(worst_cost(make_model(), bounded(make_model(), task.request, 100)) for task in TASKS)
        ended, rows, _ = await run(
            tmp_path, FakeProvider(), "a", max_cost_usd=most + 12 * COST, max_output_tokens=100, concurrency=8
        )
        assert ended.stopped == "done"
        assert len(rows) == 12

    async def test_counts_what_earlier_runs_spent(self, tmp_path: Path) -> None:
        await run(tmp_path, FakeProvider(), "a", tasks=TASKS[:6])
        provider = FakeProvider()
        ended, _, _ = await run(tmp_path, provider, "a", resume=True, max_cost_usd=6 * COST)
        assert (ended.stopped, provider.asked) == ("budget", [])

    async def test_a_call_that_may_have_been_charged_counts_at_its_worst(self, tmp_path: Path) -> None:
        def time_out(model: Model, request: Request) -> str:
            raise ProviderTimeoutError("no answer in 120 s", model=model.name)

        _, rows, spent = await run(tmp_path, FakeProvider(time_out), "a", tasks=TASKS[:1])
        assert (
            spent
            == rows[0].cost_usd
            == worst_cost(make_model(), bounded(make_model(), TASKS[0].request, 2048))
        )

    @pytest.mark.parametrize("field", ["max_cost_usd", "concurrency", "max_output_tokens", "timeout_s"])
    def test_limits_must_be_above_0(self, field: str) -> None:
        with pytest.raises(ConfigurationError, match=field):
            limits(**{field: 0})


class TestFailures:
    async def test_become_rows_and_the_run_goes_on(self, tmp_path: Path) -> None:
        def flaky(model: Model, request: Request) -> str:
            if model.name == "b":
                raise ProviderUnavailableError("503 from upstream", model="b")
            return "0"

        ended, rows, spent = await run(tmp_path, FakeProvider(flaky), "a", "b")
        assert (ended.asked, ended.failed) == (24, 12)
        assert {row.error for row in rows if row.model == "b"} == {"503 from upstream"}
        assert spent == 12 * COST

    async def test_are_asked_again_on_resuming_and_answers_are_not(self, tmp_path: Path) -> None:
        broken = {"yes": True}

        def flaky(model: Model, request: Request) -> str:
            if broken["yes"] and request.query == TASKS[3].request.query:
                raise ProviderError("broken", model=model.name)
            return "0"

        await run(tmp_path, FakeProvider(flaky), "a")
        broken["yes"] = False
        provider = FakeProvider(flaky)
        ended, _, _ = await run(tmp_path, provider, "a", resume=True)
        assert provider.asked == [(TASKS[3].request.query, "a")]
        assert (ended.asked, ended.failed) == (1, 0)

    async def test_a_model_whose_key_is_refused_is_asked_no_more(self, tmp_path: Path) -> None:
        def refuse(model: Model, request: Request) -> str:
            if model.name == "b":
                raise ProviderAuthError("the key in B_API_KEY was refused", model="b")
            return "0"

        provider = FakeProvider(refuse)
        ended, _, _ = await run(tmp_path, provider, "a", "b", concurrency=1)
        assert ended.refused == ("b",)
        assert [name for _, name in provider.asked].count("b") == 1
        assert [name for _, name in provider.asked].count("a") == 12

    async def test_a_bug_in_a_provider_is_not_taken_for_an_answer(self, tmp_path: Path) -> None:
        def bug(model: Model, request: Request) -> str:
            raise ZeroDivisionError

        with pytest.raises(ExceptionGroup):
            await run(tmp_path, FakeProvider(bug), "a")


class TestJournal:
    async def test_what_was_paid_for_survives_cancelling(self, tmp_path: Path) -> None:
        provider = FakeProvider()
        with Journal(tmp_path / "journal.jsonl") as journal:
            fifth = asyncio.Event()
            task = asyncio.create_task(
                collect(
                    TASKS,
                    pool_of(provider, "a", "b"),
                    journal,
                    limits(concurrency=2),
                    lambda row: fifth.set() if len(journal.rows) >= 5 else None,
                )
            )
            await fifth.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            kept = list(journal.rows)
        assert 5 <= len(kept) < 24
        assert Journal(tmp_path / "journal.jsonl", resume=True).rows == kept

    def test_is_not_overwritten_without_being_told(self, tmp_path: Path) -> None:
        with Journal(tmp_path / "j.jsonl") as journal:
            journal.append(Row("q", "m", COST))
        with pytest.raises(ConfigurationError, match="--resume"):
            Journal(tmp_path / "j.jsonl")

    def test_drops_a_last_line_cut_short(self, tmp_path: Path) -> None:
        rows = [
            Row("q1", "m", COST, text="a\nb\u2028c", tool_calls=({"function": {"name": "f"}},)),
            Row("q2", "m", Decimal("0.1"), error="x"),
        ]
        with Journal(tmp_path / "j.jsonl") as journal:
            for row in rows:
                journal.append(row)
        with (tmp_path / "j.jsonl").open("a") as file:
            file.write('{"query_id": "q3", "mo')
        with Journal(tmp_path / "j.jsonl", resume=True) as journal:
            assert journal.rows == rows
            journal.append(Row("q3", "m", COST))
        assert [row.query_id for row in Journal(tmp_path / "j.jsonl", resume=True).rows] == ["q1", "q2", "q3"]

    @pytest.mark.parametrize(
        "line",
        [
            "{",
            "[]",
            "{}",
            '{"query_id": "q", "model": "m", "cost_usd": "much"}',
            '{"cost_usd": "1", "new": 1}',
        ],
    )
    def test_names_a_line_that_does_not_fit(self, tmp_path: Path, line: str) -> None:
        good = json.dumps({"query_id": "q", "model": "m", "cost_usd": "0.1"})
        (tmp_path / "j.jsonl").write_text(f"{good}\n{line}\n{good}\n")
        with pytest.raises(DataError, match="line 2"):
            Journal(tmp_path / "j.jsonl", resume=True)


class TestFiles:
    @pytest.fixture(autouse=True)
    def _parquet(self) -> None:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")

    @staticmethod
    def read(folder: Path, name: str) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
        return rows

    def test_hold_grades_answers_and_costs(self, tmp_path: Path) -> None:
        models = [make_model("a"), make_model("b", simulated=True)]
        number = next(task for task in TASKS if task.grader == "numeric")
        rows = [
            Row(number.id, "a", COST, 50, 10, 0.25, text=f"So it is \\boxed{{{number.reference}.0}}"),
            Row(number.id, "b", COST, 50, 10, estimated=True, text="\\boxed{-1}"),
        ]
        summary = write_outcomes(tmp_path, TASKS, models, rows)
        (query,) = self.read(tmp_path, "queries")
        assert query == {
            "query_id": number.id,
            "dataset": number.dataset,
            "split": split_of(number.id, 0.1),
            "prompt": number.request.query,
            "reference": number.reference,
            "meta": '{"grader": "numeric"}',
        }
        first, second = self.read(tmp_path, "outcomes")
        assert first == {
            "query_id": number.id,
            "model": "a",
            "score": 1.0,
            "prompt_tokens": 50,
            "completion_tokens": 10,
            "cost_usd": 0.00007,
            "answer": number.reference,
            "response": rows[0].text,
            "latency_s": 0.25,
            "n_calls": 1,
            "cost_basis": "measured_tokens",
        }
        assert (second["score"], second["answer"], second["cost_basis"]) == (0.0, "-1", "simulated")
        assert self.read(tmp_path, "models")[0] == {
            "model": "a",
            "provider": "mock",
            "usd_per_mtok_in": 1.0,
            "usd_per_mtok_out": 2.0,
            "price_source": "tests (2026-01-01)",
            "core": True,
        }
        assert (summary.mean_score, summary.rows) == ({"a": 1.0, "b": 0.0}, 2)
        assert not list(tmp_path.glob("*.part"))

    def test_leave_failures_out_and_say_who_is_incomplete(self, tmp_path: Path) -> None:
        models = [make_model(name) for name in ("whole", "nearly", "holes", "dead")]
        rows = [Row(task.id, "whole", COST, text="1") for task in TASKS]
        rows += [Row(task.id, "nearly", COST, text="1") for task in TASKS[1:]]
        rows += [Row(task.id, "holes", COST, text="1") for task in TASKS[2:]]
        rows += [Row(TASKS[0].id, "holes", COST, error="down")]
        rows += [Row(task.id, "dead", COST, error="down") for task in TASKS]
        summary = write_outcomes(tmp_path, TASKS, models, rows)
        assert {row["model"]: row["core"] for row in self.read(tmp_path, "models")} == {
            "whole": True,
            "nearly": True,
            "holes": False,
        }
        assert summary.rows == len(self.read(tmp_path, "outcomes")) == 33

    def test_leave_out_and_count_rows_of_other_tasks(self, tmp_path: Path) -> None:
        rows = [Row(TASKS[0].id, "a", COST, text="1"), Row("elsewhere/1", "a", COST, text="1")]
        assert write_outcomes(tmp_path, TASKS, [make_model("a")], rows).strays == 1

    def test_are_what_the_loader_of_outcomes_reads(self, tmp_path: Path) -> None:
        from xrouter.tasks.outcomes import load_outcomes

        rows = [
            Row(task.id, name, COST, 50, 10, text=f"\\boxed{{{task.reference}}}")
            for task in TASKS
            for name in ("a", "b")
        ]
        write_outcomes(tmp_path, TASKS, [make_model("a"), make_model("b")], rows, test_share=0.5)
        outcomes = load_outcomes(tmp_path)
        assert outcomes.query_ids == tuple(task.id for task in TASKS)
        assert outcomes.model_names == ("a", "b")
        assert (outcomes.score_QM == 1).all()
        assert len(outcomes.split("test")) + len(outcomes.split("train")) == 12

    def test_are_not_written_without_any_answer(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no model answered"):
            write_outcomes(tmp_path, TASKS, [make_model("a")], [Row(TASKS[0].id, "a", COST, error="down")])
        assert not list(tmp_path.iterdir())


def test_the_split_goes_by_the_query_id_alone() -> None:
    ids = [task.id for task in generate(2000, seed=3)]
    shares = {share: sum(split_of(i, share) == "test" for i in ids) / len(ids) for share in (0.0, 0.1, 1.0)}
    assert shares[0.0] == 0
    assert shares[1.0] == 1
    assert 0.07 < shares[0.1] < 0.13
    assert {i for i in ids if split_of(i, 0.1) == "test"} <= {i for i in ids if split_of(i, 0.2) == "test"}

"""Sources and pass rates: read, measured, or refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow.parquet as pq
from conftest import make_model
from dataset_kit import guru_row, question, recipe_of, user, write_rows
from outcomes_kit import synthetic_tables, write_tables

from xrouter.catalog.model import Model
from xrouter.errors import ConfigurationError, DataError, ProviderUnavailableError
from xrouter.messages import Completion, Request, Usage
from xrouter.providers.pool import Pool
from xrouter.tasks.journal import Journal
from xrouter.training.dataset.gather import (
    DUPLICATE,
    IN_A_TEST_SPLIT,
    NO_GRADER,
    NO_REFERENCE,
    Gathered,
    gather,
)
from xrouter.training.dataset.pass_rates import (
    calls_left,
    journal_path,
    known_rates,
    measure,
    refuse_unmeasurable,
)
from xrouter.training.dataset.recipe import LiveLimits, Recipe

REFERENCE = {"models": ["small"], "samples": 4, "max_output_tokens": 100}
RECIPE = recipe_of(reference=REFERENCE)


class Sometimes:
    """Right on even tries of a question, wrong on odd ones; failing while `down`."""

    down = False

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked.append(request)
        if self.down:
            raise ProviderUnavailableError("503", model=model.name)
        before = sum(one.query == request.query for one in self.asked)
        right = int(request.query.split()[-1].rstrip("?")) + 1
        said = right if before % 2 == 0 else -1
        return Completion({"role": "assistant", "content": f"The answer is {said}"}, Usage(20, 5))

    async def aclose(self) -> None: ...


@pytest.fixture
def provider() -> Sometimes:
    return Sometimes()


def pool_of(provider: Sometimes) -> Pool:
    return Pool((make_model("small"),), {"mock": provider})  # type: ignore[dict-item]


async def test_pass_rates_are_means_over_samples(provider: Sometimes, tmp_path: Path) -> None:
    questions = [question(i) for i in range(3)]
    with Journal(journal_path(tmp_path, RECIPE.reference)) as journal:
        rates = await measure(questions, RECIPE, pool_of(provider), journal, LiveLimits(Decimal(1)))
    assert rates == {q.key: 0.5 for q in questions}
    assert len(provider.asked) == 12
    assert {request.params["temperature"] for request in provider.asked} == {1.0}


async def test_what_was_measured_is_not_asked_again(provider: Sometimes, tmp_path: Path) -> None:
    questions = [question(i) for i in range(3)]
    path = journal_path(tmp_path, RECIPE.reference)
    with Journal(path) as journal:
        first = await measure(questions[:2], RECIPE, pool_of(provider), journal, LiveLimits(Decimal(1)))
    with Journal(path, resume=True) as journal:
        assert calls_left(questions, RECIPE.reference, journal) == 4
        again = await measure(questions, RECIPE, pool_of(provider), journal, LiveLimits(Decimal(1)))
    assert len(provider.asked) == 12
    assert again == {**first, questions[2].key: 0.5}
    hotter = recipe_of(reference={**REFERENCE, "temperature": 0.5}).reference
    assert journal_path(tmp_path, hotter) != path


async def test_the_dollar_limit_holds_and_says_how_to_go_on(provider: Sometimes, tmp_path: Path) -> None:
    questions = [question(i) for i in range(50)]
    limit = Decimal("0.003")
    with (
        Journal(tmp_path / "j.jsonl") as journal,
        pytest.raises(ConfigurationError, match=r"--max-cost-usd 0\.003 .* pass --resume"),
    ):
        await measure(questions, RECIPE, pool_of(provider), journal, LiveLimits(limit))
    assert 0 < journal.spent_usd <= limit
    assert provider.asked


async def test_questions_whose_calls_fail_have_no_rate(provider: Sometimes, tmp_path: Path) -> None:
    provider.down = True
    with Journal(tmp_path / "j.jsonl") as journal:
        assert await measure([question(1)], RECIPE, pool_of(provider), journal, LiveLimits(Decimal(1))) == {}


def folder_of(path: Path, **columns: Any) -> str:
    tables = synthetic_tables(12, 4)
    tables["queries"].update(columns)
    write_tables(tables, path)
    return str(path)


def test_recorded_outcomes_give_questions_rates_and_models(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "kit")
    recipe = recipe_of(sources=[{"outcomes": folder}], reference={"models": ["large", "weak"]})
    gathered = gather(recipe)
    assert len(gathered.questions) == 12
    assert set(gathered.recorded) == {"small-sums", "small-poems", "weak", "large"}
    first = gathered.questions[0]
    assert (first.task.id, first.task.reference, first.task.grader, first.ability) == (
        "q0",
        "r0",
        "exact",
        "sums",
    )
    assert set(first.recorded or ()) == set(gathered.recorded)
    rates, missing = known_rates(gathered, recipe)
    assert missing == []
    assert [rates[q.key] for q in gathered.questions[8:11]] == [0.5, 0.0, 0.5]


def test_a_recorded_grader_is_kept_and_unknown_answers_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "kit",
        reference=["1", None, ""] + ["7"] * 13,
        meta=['{"grader": "numeric"}'] + ["{broken"] * 15,
    )
    gathered = gather(recipe_of(sources=[{"outcomes": folder}]))
    assert gathered.left_out == {NO_REFERENCE: 2}
    assert [q.task.grader for q in gathered.questions[:2]] == ["numeric", "exact"]


def test_no_question_of_a_test_split_and_none_twice(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "kit")
    prompts = pq.read_table(tmp_path / "kit" / "queries.parquet")["prompt"].to_pylist()
    rows = [
        guru_row("math__x", user(text), "1") for text in (prompts[-1].upper(), prompts[0], "New?", " new ")
    ]
    rows.append(guru_row("codegen__x", user("Code?"), "{}"))
    file = write_rows(tmp_path / "guru.parquet", rows)
    gathered = gather(recipe_of(sources=[{"outcomes": folder}, {"tasks": str(file)}]))
    assert gathered.left_out == {DUPLICATE: 2, IN_A_TEST_SPLIT: 1, NO_GRADER: 1}
    assert gathered.questions[-1].task.request.query == "New?"


def test_a_column_of_pass_rates_is_enough(tmp_path: Path) -> None:
    file = write_rows(
        tmp_path / "guru.parquet", [guru_row("math__x", user(f"{i}?"), "1", rate=i / 4) for i in range(4)]
    )
    recipe = recipe_of(sources=[{"tasks": str(file), "pass_rate_column": "rate", "n": 3}])
    rates, missing = known_rates(gather(recipe), recipe)
    assert (sorted(rates.values()), missing) == ([0.0, 0.25, 0.5], [])


def test_made_up_tasks_and_trivial_ones() -> None:
    recipe = recipe_of(sources=[{"tasks": "arithmetic:expression", "n": 5}, {"tasks": "trivial", "n": 4}])
    gathered = gather(recipe)
    assert [q.trivial for q in gathered.questions] == [False] * 5 + [True] * 4
    assert gathered.questions[0].ability == "arithmetic"
    _, missing = known_rates(gathered, recipe)
    assert len(missing) == 5
    assert known_rates(gathered, recipe_of(bands=[]))[1] == []


def test_reasoning_gym_tasks_that_a_file_cannot_hold_are_left_out() -> None:
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
    gathered = gather(recipe_of(sources=[{"tasks": "reasoning_gym:chain_sum", "n": 6}]))
    assert len(gathered.questions) == 6


@pytest.mark.parametrize(
    ("recipe", "live", "error", "said"),
    [
        (
            recipe_of(),
            False,
            ConfigurationError,
            "1 questions have no pass rate .*kit/numbers.*--reference-model",
        ),
        (recipe_of(), True, ConfigurationError, "--reference-model"),
        (RECIPE, False, ConfigurationError, "pass --live and --max-cost-usd to have small measured"),
    ],
)
def test_what_nobody_may_measure_is_refused(
    recipe: Recipe, live: bool, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        refuse_unmeasurable([question(1)], recipe, Gathered((), {}), live=live)


def test_who_may_be_measured_is_not_refused() -> None:
    refuse_unmeasurable([question(1)], RECIPE, Gathered((), {}), live=True)
    refuse_unmeasurable([], recipe_of(), Gathered((), {}), live=False)
    recorded = Gathered((), {}, {"small": make_model("small")})
    refuse_unmeasurable([question(1, recorded=("other",))], RECIPE, recorded, live=False)
    with pytest.raises(DataError, match="no outcomes of it are recorded; there are another"):
        refuse_unmeasurable([], RECIPE, Gathered((), {}, {"another": make_model("another")}), live=False)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no source"):
        gather(recipe_of())
    with pytest.raises(ConfigurationError, match=r"none\.parquet"):
        gather(recipe_of(sources=[{"tasks": "none.parquet"}]))
    with pytest.raises(ConfigurationError, match="say how many"):
        gather(recipe_of(sources=[{"tasks": "arithmetic"}]))
    with pytest.raises(DataError, match="queries"):
        gather(recipe_of(sources=[{"outcomes": str(tmp_path)}]))
    folder = folder_of(tmp_path / "kit")
    file = tmp_path / "kit" / "queries.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["reference"]), file)
    with pytest.raises(DataError, match="column 'reference' is missing"):
        gather(recipe_of(sources=[{"outcomes": folder}]))

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import synthetic_outcomes, tables, write_outcomes, write_tables

from xrouter.errors import DataError
from xrouter.tasks.outcomes import COLUMNS, Outcomes, load_outcomes, union

SMALL = synthetic_outcomes(seed=3, queries=20, models=4)

Rows = dict[str, list[dict[str, Any]]]


def broken(folder: Path, change: Callable[[Rows], object]) -> str:
    """The message of the DataError that a folder with this change raises."""
    rows: Rows = tables(SMALL)
    change(rows)
    write_tables(folder, rows)
    with pytest.raises(DataError) as error:
        load_outcomes(folder)
    return str(error.value)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    loaded = load_outcomes(write_outcomes(tmp_path / "set", SMALL))
    assert loaded.name == "set"
    assert loaded.query_ids == SMALL.query_ids
    assert loaded.datasets == SMALL.datasets
    assert loaded.splits == SMALL.splits
    assert loaded.core == SMALL.core
    assert loaded.model_names == SMALL.model_names
    assert [m.price.rates for m in loaded.models] == [m.price.rates for m in SMALL.models]
    np.testing.assert_array_equal(loaded.score_QM, SMALL.score_QM)
    for name in ("present_QM", "cost_QM", "prompt_tokens_QM", "tokens_QM", "answer_QM"):
        np.testing.assert_array_equal(getattr(loaded.recording, name), getattr(SMALL.recording, name))
    assert loaded.recording.prompts == SMALL.recording.prompts
    assert loaded.recording.answers == SMALL.recording.answers


def test_the_order_of_rows_says_nothing(tmp_path: Path) -> None:
    rows = tables(SMALL)
    np.random.default_rng(0).shuffle(rows["outcomes"])
    loaded = load_outcomes(write_tables(tmp_path, rows))
    np.testing.assert_array_equal(loaded.score_QM, SMALL.score_QM)
    record, original = loaded.recording, SMALL.recording
    for q in range(len(SMALL)):
        same = record.answer_QM[q][:, None] == record.answer_QM[q]
        np.testing.assert_array_equal(same, original.answer_QM[q][:, None] == original.answer_QM[q])


@pytest.mark.parametrize("name", list(COLUMNS))
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_outcomes(tmp_path, SMALL)
    (tmp_path / f"{name}.parquet").unlink()
    with pytest.raises(DataError, match=f"{name}.parquet is missing"):
        load_outcomes(tmp_path)


@pytest.mark.parametrize(("name", "column"), [(n, c) for n, columns in COLUMNS.items() for c in columns])
def test_a_missing_column_is_named(tmp_path: Path, name: str, column: str) -> None:
    message = broken(tmp_path, lambda rows: [row.pop(column) for row in rows[name]])
    assert f"{name}.parquet" in message
    assert repr(column) in message


@pytest.mark.parametrize(("column", "value"), [("model", "model-x"), ("query_id", "q999")])
def test_an_outcome_of_an_unknown_model_or_query_is_named(tmp_path: Path, column: str, value: str) -> None:
    message = broken(tmp_path, lambda rows: rows["outcomes"][7].update({column: value}))
    assert repr(value) in message
    assert "outcomes.parquet" in message


@pytest.mark.parametrize(
    ("name", "column", "value"), [("queries", "query_id", "q3"), ("models", "model", "model-1")]
)
def test_a_repeated_id_is_named(tmp_path: Path, name: str, column: str, value: str) -> None:
    message = broken(tmp_path, lambda rows: rows[name].append({**rows[name][0], column: value}))
    assert f"{name}.parquet" in message
    assert repr(value) in message


def test_a_repeated_outcome_is_named(tmp_path: Path) -> None:
    message = broken(tmp_path, lambda rows: rows["outcomes"].append({**rows["outcomes"][5], "score": 0.5}))
    assert repr(SMALL.query_ids[1]) in message
    assert repr(SMALL.model_names[1]) in message


@pytest.mark.parametrize("column", ["usd_per_mtok_in", "usd_per_mtok_out"])
def test_a_model_without_a_price_is_named(tmp_path: Path, column: str) -> None:
    message = broken(tmp_path, lambda rows: rows["models"][2].update({column: None}))
    assert "'model-2'" in message
    assert "price" in message


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    write_outcomes(tmp_path, SMALL)
    path = tmp_path / "outcomes.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match=r"outcomes\.parquet holds no rows"):
        load_outcomes(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    write_outcomes(tmp_path, SMALL)
    (tmp_path / "models.parquet").write_bytes(b"model,provider\n")
    with pytest.raises(DataError, match=r"models\.parquet"):
        load_outcomes(tmp_path)


@pytest.mark.parametrize("column", ["cost_usd", "score", "prompt_tokens"])
def test_a_column_of_words_where_numbers_belong_is_named(tmp_path: Path, column: str) -> None:
    write_outcomes(tmp_path, SMALL)
    path = tmp_path / "outcomes.parquet"
    table = pq.read_table(path)
    words = pa.array(["dear"] * len(table))
    pq.write_table(table.set_column(table.column_names.index(column), column, words), path)
    with pytest.raises(DataError, match=column):
        load_outcomes(tmp_path)


@pytest.mark.parametrize("column", ["cost_usd", "completion_tokens"])
def test_a_call_of_unknown_cost_cannot_be_made(tmp_path: Path, column: str) -> None:
    rows = tables(SMALL)
    rows["outcomes"][5][column] = None
    loaded = load_outcomes(write_tables(tmp_path, rows))
    assert not loaded.recording.present_QM[1, 1]
    assert loaded.recording.present_QM.sum() == SMALL.recording.present_QM.sum() - 1
    assert np.isnan(loaded.score_QM[1, 1])
    assert loaded.recording.cost_QM[1, 1] == 0.0


def test_a_call_that_was_never_made_cannot_be_made_again(tmp_path: Path) -> None:
    rows = tables(SMALL)
    del rows["outcomes"][5]
    loaded = load_outcomes(write_tables(tmp_path, rows))
    assert not loaded.recording.present_QM[1, 1]
    assert np.isnan(loaded.score_QM[1, 1])
    assert loaded.recording.answer_QM[1, 1] == -1


def test_prompt_tokens_may_be_unknown(tmp_path: Path) -> None:
    rows = tables(SMALL)
    rows["outcomes"][5]["prompt_tokens"] = None
    loaded = load_outcomes(write_tables(tmp_path, rows))
    assert loaded.recording.present_QM[1, 1]
    assert loaded.recording.prompt_tokens_QM[1, 1] == 0


def test_without_a_core_column_all_models_are_core(tmp_path: Path) -> None:
    rows = tables(SMALL)
    for row in rows["models"]:
        del row["core"]
    assert load_outcomes(write_tables(tmp_path, rows)).core == (True,) * 4


def test_pools(tmp_path: Path) -> None:
    core = SMALL.pool()
    assert core.model_names == ("model-0", "model-1", "model-2")
    np.testing.assert_array_equal(core.score_QM, SMALL.score_QM[:, :3])
    chosen = SMALL.pool(["model-3", "model-0"])
    assert chosen.model_names == ("model-3", "model-0")
    np.testing.assert_array_equal(chosen.recording.cost_QM, SMALL.recording.cost_QM[:, [3, 0]])
    np.testing.assert_array_equal(chosen.recording.answer_QM, SMALL.recording.answer_QM[:, [3, 0]])
    with pytest.raises(DataError, match=r"model-9.*model-0"):
        SMALL.pool(["model-0", "model-9"])


def test_a_set_without_core_models_has_no_core_pool() -> None:
    with pytest.raises(DataError, match="core"):
        replace(SMALL, core=(False,) * 4).pool()


def test_datasets_go_by_their_full_or_last_name() -> None:
    whole, last = SMALL.datasets_named(["made/up/history"]), SMALL.datasets_named(["history"])
    assert whole.query_ids == last.query_ids
    assert set(whole.datasets) == {"made/up/history"}
    with pytest.raises(DataError, match=r"alchemy.*made/up/biology"):
        SMALL.datasets_named(["alchemy"])


def test_splits_part_the_queries() -> None:
    train, test = SMALL.split("train"), SMALL.split("test")
    assert set(train.query_ids) | set(test.query_ids) == set(SMALL.query_ids)
    assert not set(train.query_ids) & set(test.query_ids)
    assert test.recording.prompts[0] == SMALL.recording.prompts[SMALL.query_ids.index(test.query_ids[0])]
    with pytest.raises(DataError, match="'test'"):
        train.split("test")


def test_rows_keep_everything_in_step() -> None:
    part = SMALL.rows([5, 2])
    assert part.query_ids == ("q5", "q2")
    assert part.recording.prompts == (SMALL.recording.prompts[5], SMALL.recording.prompts[2])
    np.testing.assert_array_equal(part.score_QM, SMALL.score_QM[[5, 2]])
    np.testing.assert_array_equal(part.recording.cost_QM, SMALL.recording.cost_QM[[5, 2]])
    assert part.recording.answers == (SMALL.recording.answers[5], SMALL.recording.answers[2])


def test_scores_of() -> None:
    score = np.array([[1.0, 0.0], [np.nan, 0.5]])
    two = replace(SMALL.pool(["model-0", "model-1"]).rows([0, 1]), score_QM=score)
    query, model = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, -1])
    np.testing.assert_array_equal(two.scores_of(query, model), [1.0, 0.0, 0.0, 0.5, 0.0])


def _renamed(outcomes: Outcomes, names: dict[str, str], name: str) -> Outcomes:
    models = tuple(replace(m, name=names.get(m.name, m.name)) for m in outcomes.models)
    return replace(outcomes, name=name, recording=replace(outcomes.recording, models=models))


def test_a_union_holds_every_query_and_model_and_no_call_that_was_not_made() -> None:
    one = _renamed(SMALL, {}, "one")
    other = _renamed(SMALL.rows([4, 1]), {"model-3": "stranger"}, "other")
    both = union([one, other])
    assert both.name == "one+other"
    assert both.model_names == ("model-0", "model-1", "model-2", "model-3", "stranger")
    assert both.query_ids == (*one.query_ids, "q4", "q1")
    np.testing.assert_array_equal(both.score_QM[:20, :4], one.score_QM)
    np.testing.assert_array_equal(both.score_QM[20:, [0, 1, 2, 4]], other.score_QM)
    assert np.isnan(both.score_QM[:20, 4]).all()
    assert np.isnan(both.score_QM[20:, 3]).all()
    record = both.recording
    assert not record.present_QM[:20, 4].any()
    assert not record.present_QM[20:, 3].any()
    assert (record.answer_QM[20:, 3] == -1).all()
    assert record.cost_QM[20, 4] == SMALL.recording.cost_QM[4, 3]
    assert record.answers[20] == SMALL.recording.answers[4]


def test_a_union_of_one_is_itself() -> None:
    same = union([SMALL])
    np.testing.assert_array_equal(same.score_QM, SMALL.score_QM)
    assert same.models == SMALL.models


def test_a_union_over_two_prices_is_refused() -> None:
    record = SMALL.recording
    dearer = replace(record.models[0], price=record.models[1].price)
    other = replace(SMALL, recording=replace(record, models=(dearer, *record.models[1:])))
    with pytest.raises(DataError, match="'model-0' has two prices"):
        union([SMALL, other])


def _answering(tmp_path: Path, prompt: str, answers: list[str | None]) -> Outcomes:
    """The set with this first prompt, answered so by its models."""
    rows = tables(SMALL)
    rows["queries"][0]["prompt"] = prompt
    for row in rows["outcomes"]:
        if row["query_id"] == SMALL.query_ids[0]:
            row["answer"] = answers[SMALL.model_names.index(row["model"])]
    return load_outcomes(write_tables(tmp_path, rows))


CALLS: list[str | None] = ["[f(a=1)]", '[{"f":"{\\"a\\":1.0}"}]', "NonehelpswiththisquestionIamafraid.", "[]"]


def test_where_the_prompt_describes_functions_equal_calls_are_equal_answers(tmp_path: Path) -> None:
    prompt = 'Call it.\n{"name": "f", "parameters": {"type": "object", "properties": {}}}'
    record = _answering(tmp_path, prompt, CALLS).recording
    assert record.answer_QM[0].tolist() == [0, 0, 1, 1]
    assert record.answers[0] == ("[f(a=1)]", CALLS[2])


def test_elsewhere_only_equal_strings_are_and_no_answer_stays_none(tmp_path: Path) -> None:
    record = _answering(tmp_path, "What does it print?", CALLS).recording
    assert record.answer_QM[0].tolist() == [0, 1, 2, 3]
    assert record.answers[0] == tuple(CALLS)
    missing = _answering(tmp_path, '{"name": "f", "parameters": {}}', [None, "[]", None, "f(a=1)"]).recording
    assert missing.answer_QM[0].tolist() == [-1, 0, -1, 1]

"""Reasoning360's parquet columns as tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from dataset_kit import guru_row, user, write_rows

from xrouter.errors import ConfigurationError, DataError
from xrouter.tasks.graders import grade
from xrouter.tasks.guru import read_table

CHOICE = "Which is right?\nA) up\nB) down\nC) left"


def table_of(path: Path, *rows: dict[str, object], **options: object) -> object:
    return read_table(write_rows(path / "guru.parquet", list(rows)), **options)  # type: ignore[arg-type]


def test_columns_become_tasks(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        guru_row("math__gsm", user("What is 6 * 7?"), "42"),
        guru_row("stem__gpqa", user(CHOICE), "B"),
        guru_row("logic__order", user("Order them."), '["a", "b"]'),
        guru_row("simulation__crux", user("What does f return?"), "abc"),
        guru_row("codegen__mbpp", user("Write f."), "{}"),
    )
    rows = {row.task.dataset: row for row in table.rows}  # type: ignore[attr-defined]
    assert [(name, row.ability, row.task.grader) for name, row in rows.items()] == [
        ("math__gsm", "math", "math"),
        ("stem__gpqa", "stem", "choice"),
        ("logic__order", "logic", "xrouter.tasks.guru:json_answer"),
        ("simulation__crux", "simulation", "exact"),
    ]
    assert table.left_out == {"codegen__mbpp": 1}  # type: ignore[attr-defined]
    for name, right, wrong in (
        ("math__gsm", "The answer is \\boxed{42}.", "\\boxed{41}"),
        ("stem__gpqa", "Answer: B", "Answer: A"),
        ("logic__order", 'So: ["a","b"]', 'So: ["b", "a"]'),
        ("simulation__crux", "abc", "abd"),
    ):
        task = rows[name].task
        assert (grade(task, right), grade(task, wrong)) == (1.0, 0.0), name


def test_a_letter_without_options_is_not_a_choice(tmp_path: Path) -> None:
    table = table_of(tmp_path, guru_row("math__x", user("Which variable is free?"), "A"))
    assert table.rows[0].task.grader == "math"  # type: ignore[attr-defined]


def test_text_in_raw_prompt_is_read_where_prompt_is_empty(tmp_path: Path) -> None:
    empty: list[dict[str, str]] = []
    first = guru_row("table__hitab", user("Sum?"), "3", raw_prompt=None)
    table = table_of(tmp_path, first, guru_row("table__hitab", empty, "7", raw_prompt="How many rows?"))
    assert table.rows[1].task.request.query == "How many rows?"  # type: ignore[attr-defined]


def test_a_system_prompt_is_kept(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *user("6 * 7?")]
    table = table_of(tmp_path, guru_row("math__gsm", messages, "42"))
    assert [m["role"] for m in table.rows[0].task.request.messages] == ["system", "user"]  # type: ignore[attr-defined]


def test_pass_rates_and_graders_are_the_users_to_name(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        guru_row("codegen__mbpp", user("Name f."), "f", rate=0.25),
        guru_row("math__gsm", user("6 * 7?"), "42", rate=None),
        guru_row("math__gsm", user("6 * 8?"), "48", rate=float("nan")),
        graders={"codegen": "exact", "math__gsm": "numeric"},
        pass_rate_column="rate",
    )
    assert [(row.task.grader, row.pass_rate) for row in table.rows] == [
        ("exact", 0.25),
        ("numeric", None),
        ("numeric", None),
    ]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        (guru_row("math__x", user("?"), None), {}, "row 0: reward_model.ground_truth"),
        (guru_row("math__x", [{"role": "user", "content": ""}], "1"), {}, "row 0: prompt must be messages"),
        (guru_row("", user("?"), "1"), {}, "row 0: data_source"),
        (
            guru_row("math__x", user("?"), "1", rate=7.0),
            {"pass_rate_column": "rate"},
            "rate must be a pass rate",
        ),
        (guru_row("math__x", user("?"), "1"), {"pass_rate_column": "rate"}, "column 'rate' is missing"),
        ({"data_source": "math__x"}, {}, "column 'prompt' is missing"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, row: dict[str, object], options: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        table_of(tmp_path, row, **options)


def test_files_and_graders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.parquet"):
        read_table(tmp_path / "none.parquet")
    with pytest.raises(ConfigurationError, match="grader 'wishful'"):
        table_of(tmp_path, guru_row("math__x", user("?"), "1"), graders={"math": "wishful"})

"""The two files: what is in them, what never is, and that they come out the same every time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import make_model
from dataset_kit import MODELS, question, recipe_of

from xrouter.episodes.actions import tool_names, tool_schemas
from xrouter.episodes.episode import Observation, Preference
from xrouter.errors import ConfigurationError, DataError
from xrouter.messages import Request
from xrouter.policies.tool_calling import ToolCallingPolicy
from xrouter.tasks.graders import grade
from xrouter.training.dataset.build import CUT, NO_POOL, TOO_LONG, Built, build, split_of
from xrouter.training.dataset.question import Question, question_key
from xrouter.training.dataset.recipe import Recipe
from xrouter.training.dataset.rows import Sample, load_samples
from xrouter.training.dataset.tokens import counter

HARD_TWICE = [{"name": "hard", "low": 0, "high": 1, "repeats": 2}]
RECIPE = recipe_of(bands=HARD_TWICE, validation_share=0.3)


def built(
    folder: Path, questions: list[Question], recipe: Recipe = RECIPE
) -> tuple[Built, list[Sample], list[dict[str, Any]]]:
    result = build(questions, {q.key: 0.5 for q in questions if not q.trivial}, MODELS, recipe, folder)
    files = sorted(folder.glob("*.parquet"))
    return (
        result,
        [sample for file in files for sample in load_samples(file)],
        [row for file in files for row in pq.read_table(file).to_pylist()],
    )


@pytest.fixture
def questions() -> list[Question]:
    return [question(i) for i in range(40)] + [question(i, trivial=True) for i in range(40, 50)]


def test_columns_are_those_that_verl_and_trl_read(tmp_path: Path, questions: list[Question]) -> None:
    _, samples, rows = built(tmp_path, questions)
    assert len(rows) == 90
    names = [*tool_names(MODELS.values()), "select_response"]
    for row, sample in zip(rows, samples, strict=True):
        assert row["data_source"] == "kit/numbers"
        assert all(set(message) == {"role", "content"} for message in row["prompt"])
        assert row["reward_model"] == {"style": "rule", "ground_truth": sample.task.reference}
        extra = row["extra_info"]
        assert extra["reference_answers"] == [sample.task.reference]
        assert extra["need_tools_kwargs"] is True
        offered = {name for name, kw in extra["tools_kwargs"].items() if kw["create_kwargs"]["offered"]}
        assert set(extra["tools_kwargs"]) <= set(names)
        assert offered == {tool["function"]["name"] for tool in sample.tools}
        by_model = {kw["create_kwargs"]["model"] for kw in extra["tools_kwargs"].values()} - {""}
        assert by_model == set(sample.pool)
        assert extra["prompt_tokens"] == sample.prompt_tokens > 0
    for split in ("train", "validation"):
        assert [s.index for s in samples if s.split == split] == list(
            range(sum(s.split == split for s in samples))
        )


def test_a_row_is_a_task_again(tmp_path: Path, questions: list[Question]) -> None:
    _, samples, _ = built(tmp_path, questions)
    tasks = {q.task.id: q.task for q in questions}
    for sample in samples:
        assert sample.task == tasks[sample.task.id]
        assert sample.task.request.messages == tasks[sample.task.id].request.messages
        assert grade(sample.task, sample.task.reference) == 1.0


def test_what_is_trained_is_what_is_served(tmp_path: Path, questions: list[Question]) -> None:
    """A policy that serves, asked with the same question, pool and preference, says the same to its model."""
    _, samples, _ = built(tmp_path, questions)
    serving = ToolCallingPolicy(None, make_model("router", context_window=32_768), RECIPE.router)  # type: ignore[arg-type]
    for sample in samples:
        pool = tuple(MODELS[name] for name in sample.pool)
        seen = Observation(sample.task.request, pool, sample.preference, (), sample.preference.max_turns)
        asked = serving.request(seen, pool)
        assert list(sample.messages) == [dict(message) for message in asked.messages]
        assert list(sample.tools) == asked.params["tools"] == tool_schemas(pool)


def test_the_recipe_says_what_may_be_said_with_a_call(tmp_path: Path, questions: list[Question]) -> None:
    router = replace(RECIPE.router, call_arguments=("temperature",))
    _, samples, _ = built(tmp_path, questions, recipe=replace(RECIPE, router=router))
    for sample in samples:
        *calls, _ = sample.tools
        assert {tuple(tool["function"]["parameters"]["properties"]) for tool in calls} == {("temperature",)}
        assert "temperature is optional" in sample.messages[0]["content"]


def test_the_answer_key_is_never_shown(tmp_path: Path, questions: list[Question]) -> None:
    """Other right answers change nothing of what the router or a called model reads."""

    def shown(name: str, reference: str | None) -> list[object]:
        renamed = [
            replace(q, task=replace(q.task, reference=reference or q.task.reference, meta={"key": reference}))
            if reference
            else q
            for q in questions
        ]
        for q in renamed:
            assert q.task.grader == "numeric"
        _, _, rows = built(tmp_path / name, renamed)
        return [
            (row["prompt"], row["tools"], row["extra_info"]["request"], row["extra_info"]["tools_kwargs"])
            for row in rows
        ]

    plain, secret = shown("plain", None), shown("secret", "777123777")
    assert plain == secret
    assert "777123777" not in json.dumps(secret)


def test_each_repetition_has_its_own_pool_and_one_side(tmp_path: Path, questions: list[Question]) -> None:
    _, samples, _ = built(tmp_path, questions)
    of_question: dict[str, list[Sample]] = {}
    for sample in samples:
        of_question.setdefault(sample.task.id, []).append(sample)
    repeated = [group for group in of_question.values() if len(group) > 1]
    assert len(repeated) == 40
    assert all(len({sample.split for sample in group}) == 1 for group in repeated)
    assert all(sorted(sample.repetition for sample in group) == [0, 1] for group in repeated)
    assert sum(len({sample.pool for sample in group}) == 2 for group in repeated) > 35
    assert {sample.preference.cost_weight for sample in samples} == set(RECIPE.episodes.cost_weights)
    assert {sample.split for sample in samples} == {"train", "validation"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is 5!", "What is 5?", False),
        ("What is 6 * 7?", "  WHAT is\n6 * 7 ", True),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("Caf\u00e9?", "Cafe\u0301", True),
        ("Say 'a'", "Say 'A'.", True),
    ],
)
def test_questions_are_told_apart_by_their_words(one: str, other: str, same: bool) -> None:
    assert (question_key(Request.from_text(one)) == question_key(Request.from_text(other))) is same


def test_the_split_follows_the_words_and_its_share() -> None:
    recipe = recipe_of(validation_share=0.2)
    splits = [split_of(question(i), recipe) for i in range(500)]
    assert 60 < splits.count("validation") < 140
    loud = question(1)
    loud = replace(loud, task=replace(loud.task, request=Request.from_text("WHICH number follows 1")))
    for seed in range(20):
        assert split_of(loud, recipe_of(seed=seed)) == split_of(question(1), recipe_of(seed=seed))
    assert {split_of(question(i), recipe_of(validation_share=0)) for i in range(50)} == {"train"}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, questions: list[Question]) -> None:
    def bytes_of(name: str, asked: list[Question], recipe: Recipe = RECIPE) -> list[bytes]:
        built(tmp_path / name, asked, recipe)
        return [file.read_bytes() for file in sorted((tmp_path / name).glob("*.parquet"))]

    first = bytes_of("first", questions)
    assert bytes_of("again", questions) == first
    assert bytes_of("backwards", questions[::-1]) == first
    assert bytes_of("seed", questions, replace(RECIPE, seed=1)) != first


def test_prompts_that_are_too_long_are_left_out(tmp_path: Path, questions: list[Question]) -> None:
    essay = replace(
        question(1), task=replace(question(1).task, id="essay", request=Request.from_text("word " * 6_000))
    )
    result, samples, _ = built(tmp_path, [*questions, essay], replace(RECIPE, max_prompt_tokens=6_000))
    assert result.left_out == {TOO_LONG: 2}
    assert "essay" not in {sample.task.id for sample in samples}
    assert max(sample.prompt_tokens for sample in samples) <= 6_000
    long = replace(RECIPE, max_prompt_tokens=100_000, router=replace(RECIPE.router, context_window=16_000))
    result, _, _ = built(tmp_path / "cut", [*questions, essay], long)
    assert result.left_out == {CUT: 2}


def test_nothing_to_write_is_an_error_that_says_why(tmp_path: Path, questions: list[Question]) -> None:
    with pytest.raises(DataError, match=f"{TOO_LONG}: 90"):
        built(tmp_path, questions, replace(RECIPE, max_prompt_tokens=10))
    assert not list(tmp_path.iterdir())
    nobody = [question(1, recorded=("nobody",))]
    with pytest.raises(DataError, match=NO_POOL):
        built(tmp_path, nobody, recipe_of(bands=[], pools={"models": "outcomes"}))


def test_rows_of_other_data_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: not a row of"):
        load_samples(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        load_samples(tmp_path / "none.parquet")


def test_a_tokenizer_counts(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    messages = [{"role": "user", "content": "a a a b"}]
    assert counter(str(tmp_path))(messages, []) == 8
    assert counter(str(tmp_path / "tokenizer.json"))(messages, [{"a": 1}]) == 10
    (tmp_path / "bad.json").write_text("{}")
    for name, said in (("bad.json", "is no tokenizer"), ("none.json", "is not there")):
        with pytest.raises(ConfigurationError, match=said):
            counter(str(tmp_path / name))


def test_preferences_are_the_recipes(tmp_path: Path, questions: list[Question]) -> None:
    recipe = replace(RECIPE, episodes=replace(RECIPE.episodes, cost_weights=(0.5,), max_turns=2))
    _, samples, _ = built(tmp_path, questions, recipe)
    assert {sample.preference for sample in samples} == {Preference(cost_weight=0.5, max_turns=2)}

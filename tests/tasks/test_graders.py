from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from xrouter.errors import ConfigurationError, DataError
from xrouter.messages import Completion, Usage
from xrouter.tasks import graders
from xrouter.tasks.graders import GRADERS, grade, grade_completion, grader_named
from xrouter.tasks.task import Task


def task(grader: str, reference: str, prompt: str = "How many are there?") -> Task:
    return Task.of("tests", prompt, grader, reference)


def call(name: str, arguments: str) -> dict[str, object]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}'


@pytest.mark.parametrize(
    ("grader", "reference", "text", "score"),
    [
        ("exact", "Paris", "paris", 1),
        ("exact", "Paris", "  Paris.\n", 1),
        ("exact", "Paris", "The answer is Paris.", 1),
        ("exact", "Paris", "Lyon", 0),
        ("exact", "Paris", "", 0),
        ("numeric", "42", "Six times seven is 42.", 1),
        ("numeric", "1234", "The answer is 1,234.", 1),
        ("numeric", "42", "\\boxed{42.0}", 1),
        ("numeric", "0.5", "\\boxed{1/2}", 1),
        ("numeric", "-3", "#### -3", 1),
        ("numeric", "3", "#### -3", 0),
        ("numeric", "42", "\\boxed{x = 42}", 1),
        ("numeric", "42", "First 42, so the answer is 43.", 0),
        ("numeric", "0", "The answer is 0.", 1),
        ("numeric", "0", "The answer is 0.0001.", 0),
        ("numeric", "1e6", "The answer is 1000000", 1),
        ("numeric", "42", "no idea", 0),
        ("numeric", "42", "", 0),
        ("choice", "B", "B", 1),
        ("choice", "b", "The answer is (B).", 1),
        ("choice", "(B)", "B) Paris", 1),
        ("choice", "B", "The answer is C.", 0),
        ("choice", "B", "Because it is so", 0),
        ("choice", "B", "", 0),
        ("json_field", '{"age": 36, "name": "Ada"}', 'Here: {"name": "Ada", "age": 36, "more": 1}', 1),
        ("json_field", '{"age": 36, "name": "Ada"}', '```json\n{"name": "Ada", "age": 37}\n```', 0.5),
        ("json_field", '{"age": 36}', '{"age": 36.0}', 1),
        ("json_field", '{"old": true}', '{"old": 1}', 0),
        ("json_field", '{"a": null}', "{}", 0),
        ("json_field", '{"a": {"b": [1, 2]}}', '{"a": {"b": [1, 2]}}', 1),
        ("json_field", '{"a": {"b": [1, 2]}}', '{"a": {"b": [2, 1]}}', 0),
        ("json_field", '{"a": 1}', "{broken {]} no JSON here", 0),
        ("json_field", '{"a": 1}', 'first {"a": 2}, no: {"a": 1}', 1),
        ("tool_call", WEATHER, '<tool_call>{"name": "weather", "arguments": {"days": 2, "city": "Oslo"}}</tool_call>', 1),
        ("tool_call", WEATHER, '{"name": "weather", "arguments": {"city": "Rome", "days": 2}}', 0),
        ("tool_call", WEATHER, "It will rain.", 0),
        ("tool_call", WEATHER, "", 0),
    ],
)  # fmt: skip
def test_grades(grader: str, reference: str, text: str, score: float) -> None:
    assert grade(task(grader, reference), text) == score


def test_tool_calls_of_the_message_count_in_any_order_and_number() -> None:
    other = '{"name": "time", "arguments": {}}'
    both = task("tool_call", f"[{WEATHER}, {other}]")
    weather = call("weather", '{"days": 2.0, "city": "Oslo"}')
    assert grade(both, "", [call("time", "{}"), weather]) == 1
    assert grade(both, "", [weather]) == 0
    assert grade(both, "", [weather, weather, call("time", "{}")]) == 0
    assert grade(task("tool_call", WEATHER), "", [call("weather", "{broken")]) == 0


def test_grade_completion_reads_text_and_tool_calls() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call("weather", json.dumps({"city": "Oslo", "days": 2}))]}  # fmt: skip
    assert grade_completion(task("tool_call", WEATHER), Completion(message=message, usage=Usage())) == 1


@pytest.mark.parametrize(
    ("grader", "reference"),
    [
        ("numeric", "many"),
        ("choice", "Paris"),
        ("json_field", "[1]"),
        ("json_field", "{}"),
        ("tool_call", "rain"),
    ],
)
def test_a_reference_that_does_not_fit_is_named(grader: str, reference: str) -> None:
    with pytest.raises(DataError, match="tests/"):
        grade(task(grader, reference), "42")


def test_unknown_graders_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'fuzzy'.*numeric"):
        grade(task("fuzzy", "1"), "1")
    with pytest.raises(ConfigurationError, match="no_such_module"):
        grader_named("no_such_module:score")
    with pytest.raises(ConfigurationError, match="no_such_grader"):
        grader_named("xrouter.tasks.graders:no_such_grader")


def test_a_grader_of_ones_own_goes_by_module_and_function() -> None:
    assert grade(task("xrouter.tasks.graders:exact", "Paris"), "Paris") == 1


class TestMath:
    @pytest.fixture
    def without_math_verify(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(graders, "math_verify_installed", lambda: False)

    @pytest.mark.usefixtures("without_math_verify")
    @pytest.mark.parametrize(
        ("reference", "text", "score"),
        [
            ("\\frac{1}{2}", "\\boxed{0.5}", 1),
            ("x^2", "\\boxed{x^{2}}", 1),
            ("7", "\\boxed{8}", 0),
            ("x^2", "", 0),
        ],
    )
    def test_alone_it_knows_equal_numbers_and_equal_strings(
        self, reference: str, text: str, score: float
    ) -> None:
        assert grade(task("math", reference), text) == score

    @pytest.mark.usefixtures("without_math_verify")
    def test_alone_it_says_so(self) -> None:
        assert "math-verify is not installed" in (graders.notice("math") or "")
        assert graders.notice("numeric") is None

    def test_time_outs_that_need_the_main_thread_are_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[dict[str, object]] = []
        fake = ModuleType("math_verify")
        fake.parse = lambda text, **options: seen.append(options) or [text.strip("$")]  # type: ignore[attr-defined]
        fake.verify = lambda gold, given, **options: seen.append(options) or gold == given  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "math_verify", fake)
        monkeypatch.setattr(graders, "math_verify_installed", lambda: True)
        assert grade(task("math", "x"), "x") == 1
        assert seen == [{"parsing_timeout": None}, {"parsing_timeout": None}, {"timeout_seconds": None}]
        assert graders.notice("math") is None

    def test_with_math_verify_equivalent_expressions_are_right_in_threads_too(self) -> None:
        pytest.importorskip("math_verify", reason="math-verify is not installed")
        with ThreadPoolExecutor(2) as threads:
            scores = threads.map(
                lambda text: grade(task("math", "2\\sqrt{2}"), text),
                ["so \\boxed{\\sqrt{8}}", "$\\sqrt{8}$", "\\boxed{3}", ""],
            )
            assert list(scores) == [1, 1, 0, 0]


@pytest.mark.parametrize("name", GRADERS)
def test_every_grader_stays_within_0_and_1_on_junk(name: str) -> None:
    reference = {"choice": "B", "json_field": '{"a": 1}', "tool_call": WEATHER}.get(name, "42")
    junk = ("", " ", "{" * 5000, "\\boxed{", "1/0", "\\boxed{1/0}", "٤٢", "\ud83d", "9" * 5000, "4,,2", "²")
    for text in junk:
        assert 0 <= grade(task(name, reference), text) <= 1


def test_json_nested_past_all_reason_is_no_json() -> None:
    assert grade(task("json_field", '{"a": 1}'), "[" * 5000) == 0

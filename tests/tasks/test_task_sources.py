from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from xrouter.errors import ConfigurationError, DataError
from xrouter.providers.question_bank import solve
from xrouter.tasks import arithmetic, reasoning_gym
from xrouter.tasks.graders import grade
from xrouter.tasks.prompts import read_tasks
from xrouter.tasks.sources import load_tasks, source_names
from xrouter.tasks.task import Task, task_id


class TestArithmetic:
    def test_a_seed_fixes_the_tasks_and_more_of_them_go_on_from_there(self) -> None:
        first = arithmetic.generate(30, seed=4)
        assert arithmetic.generate(60, seed=4)[:30] == first
        assert arithmetic.generate(30, seed=5) != first

    def test_ids_are_unique_and_kinds_take_turns(self) -> None:
        tasks = arithmetic.generate(90, seed=0)
        assert len({task.id for task in tasks}) == 90
        assert {task.dataset for task in tasks[:3]} == {
            "arithmetic/word",
            "arithmetic/expression",
            "arithmetic/comparison",
        }

    def test_references_are_right(self) -> None:
        for task in arithmetic.generate(200, seed=1, only=["expression"]):
            expression = task.request.query.removeprefix("What is ").removesuffix("?")
            assert eval(expression) == int(task.reference)
        for task in arithmetic.generate(200, seed=1, only=["comparison"]):
            a, b = task.request.query.removeprefix("Which is larger? A: ").split(". ")[0].split("  B: ")
            assert task.reference == ("A" if eval(a) > eval(b) else "B")
        for task in arithmetic.generate(200, seed=1, only=["word"]):
            boxes, each, gave = (int(w) for w in task.request.query.split() if w.isdigit())
            assert boxes * each - gave == int(task.reference) >= 0

    def test_its_references_get_full_marks_and_no_others(self) -> None:
        for task in arithmetic.generate(60, seed=2):
            wrong = {"A": "B", "B": "A"}.get(task.reference) or str(int(task.reference) + 1)
            assert grade(task, f"I see. The answer is {task.reference}.") == 1
            assert grade(task, f"I see. The answer is {wrong}.") == 0

    def test_simulated_models_understand_words_and_expressions(self) -> None:
        for task in arithmetic.generate(60, seed=3, only=["word", "expression"]):
            solved = solve(task.request.query)
            assert solved is not None
            assert solved.answer == task.reference

    def test_an_unknown_kind_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'calculus'.*comparison"):
            arithmetic.generate(1, 0, only=["calculus"])


class TestPromptsFile:
    @staticmethod
    def write(path: Path, *lines: object) -> Path:
        file = path / "mine.jsonl"
        file.write_text(
            "\n".join(
                line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
            ),
            encoding="utf-8",
        )
        return file

    def test_reads_lines(self, tmp_path: Path) -> None:
        file = self.write(
            tmp_path,
            {"prompt": "2 + 2?", "reference": 4, "grader": "numeric"},
            "",
            {"prompt": "Capital\u2028of Peru?", "reference": "Lima", "grader": "exact", "id": "peru", "dataset": "geo"},
        )  # fmt: skip
        first, second = read_tasks(file)
        assert (first.id, first.dataset, first.reference) == (task_id("mine", "2 + 2?"), "mine", "4")
        assert (second.id, second.dataset, second.grader) == ("peru", "geo", "exact")
        assert second.request.query == "Capital\u2028of Peru?"

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{not json", "not JSON"),
            ([1], "a JSON object is due, not list"),
            ({"prompt": "p", "grader": "exact"}, "'reference' is missing"),
            ({"prompt": "", "reference": "r", "grader": "exact"}, "'prompt' must be text"),
            ({"prompt": 3, "reference": "r", "grader": "exact"}, "'prompt' must be text"),
            ({"prompt": "p", "reference": None, "grader": "exact"}, "'reference' must be text"),
            ({"prompt": "p", "reference": "r", "grader": "fuzzy"}, "'fuzzy' is not one of exact"),
            ({"prompt": "p", "reference": "r", "grader": "os:system"}, "'os:system' is not one of exact"),
            ({"prompt": "p", "reference": "r", "grader": "numeric"}, "'r' is not a number"),
            ({"prompt": "p", "reference": "r", "grader": "exact", "answer": 1}, "'answer' is not known"),
            ({"prompt": "ok", "reference": "x", "grader": "exact"}, "the same id or prompt as line 1"),
        ],
    )
    def test_a_bad_line_is_named_by_its_number(self, tmp_path: Path, line: object, said: str) -> None:
        file = self.write(tmp_path, {"prompt": "ok", "reference": "r", "grader": "exact"}, "", line)
        with pytest.raises(DataError) as error:
            read_tasks(file)
        assert "line 3: " in str(error.value)
        assert said in str(error.value)

    def test_all_bad_lines_are_named_at_once_up_to_ten(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as error:
            read_tasks(self.write(tmp_path, *["{"] * 12))
        assert "line 1: " in str(error.value)
        assert "line 10: " in str(error.value)
        assert "and 2 more" in str(error.value)

    def test_empty_missing_or_unreadable_files(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no tasks"):
            read_tasks(self.write(tmp_path, "", " "))
        with pytest.raises(ConfigurationError, match=r"none\.jsonl"):
            read_tasks(tmp_path / "none.jsonl")
        (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_tasks(tmp_path / "latin.jsonl")


class TestLoading:
    def test_by_name_and_parts(self) -> None:
        assert load_tasks("arithmetic", 5, seed=3) == arithmetic.generate(5, 3)
        assert {task.dataset for task in load_tasks("arithmetic:word", 5, 0)} == {"arithmetic/word"}

    def test_by_file(self, tmp_path: Path) -> None:
        file = TestPromptsFile.write(
            tmp_path, *({"prompt": f"p{i}", "reference": "r", "grader": "exact"} for i in range(4))
        )
        assert len(load_tasks(str(file), None, 0)) == 4
        assert len(load_tasks(str(file), 3, 0)) == 3

    def test_by_dotted_path(self) -> None:
        assert load_tasks("xrouter.tasks.arithmetic", 2, 0) == arithmetic.generate(2, 0)

    def test_lists_the_sources_that_ship(self) -> None:
        assert set(source_names()) >= {"arithmetic", "reasoning_gym"}
        assert "graders" not in source_names()

    @pytest.mark.parametrize("spec", ["algebra", "graders", "no.such.module", "os.path", "..", ""])
    def test_an_unknown_source_is_named(self, spec: str) -> None:
        with pytest.raises(ConfigurationError, match="arithmetic"):
            load_tasks(spec, 1, 0)

    @pytest.mark.parametrize("n", [0, -1, None])
    def test_made_up_tasks_need_a_number(self, n: int | None) -> None:
        with pytest.raises(ConfigurationError):
            load_tasks("arithmetic", n, 0)


class TestReasoningGym:
    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "reasoning_gym", None)
        with pytest.raises(ConfigurationError, match="pip install reasoning-gym"):
            reasoning_gym.generate(1, 0)

    def test_refuses_generators_that_cannot_be_graded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "reasoning_gym", ModuleType("reasoning_gym"))
        with pytest.raises(ConfigurationError, match="rush_hour"):
            reasoning_gym.generate(1, 0, only=["rush_hour"])

    def test_shares_n_out_and_grades_by_the_generator(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def score_answer(answer: str, entry: dict[str, str]) -> float:
            return 1.0 if answer == entry["answer"] else 0.01

        fake = SimpleNamespace(
            create_dataset=lambda name, size, seed: [
                {"question": f"{name} {seed} {i}?", "answer": str(i)} for i in range(size)
            ],
            get_score_answer_fn=lambda name: score_answer,
        )
        monkeypatch.setitem(sys.modules, "reasoning_gym", fake)
        tasks = reasoning_gym.generate(5, 9, only=["a", "b"])
        assert [task.dataset for task in tasks] == ["reasoning_gym/a"] * 3 + ["reasoning_gym/b"] * 2
        assert grade(tasks[1], "so \\boxed{1}") == 1.0
        assert grade(tasks[1], "1") == 1.0
        assert grade(tasks[1], "2") == 0.01

    def test_the_real_one_gives_its_own_answers_full_marks(self) -> None:
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed", exc_type=ImportError)
        tasks = load_tasks("reasoning_gym", 12, 0)
        assert [grade(task, task.reference) for task in tasks] == [1.0] * 12
        assert load_tasks("reasoning_gym", 12, 0)[3].id == tasks[3].id


def test_an_id_depends_on_data_set_and_prompt_alone() -> None:
    one = Task.of("d", "p", "exact", "r")
    assert one.id == Task.of("d", "p", "numeric", "1").id
    assert len({one.id, Task.of("e", "p", "exact", "r").id, Task.of("d", "q", "exact", "r").id}) == 3

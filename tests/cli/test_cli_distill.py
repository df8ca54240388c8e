"""`xrouter distill`, from a teacher to a checkpoint and a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcomes_kit import synthetic_tables, write_tables
from router_llm_kit import call, says, select
from typer.testing import CliRunner
from upstream import MockUpstream

from xrouter.cli import app
from xrouter.errors import ConfigurationError, DataError, XRouterError
from xrouter.evaluation.decisions import recompute
from xrouter.policies.checkpoint import load_network, read_provenance

NETWORK = "dimensions = 8\nlandmarks = 8\nvocabulary = 300\nhidden = 32\nvalidation_share = 0.2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "network.toml").write_text(NETWORK)
    return write_tables(synthetic_tables(80, 20), tmp_path / "kit")


def run(command: str, folder: Path, out: Path, *options: str):
    arguments = [command, "--outcomes", str(folder), "--out", str(out), "--bootstrap", "20", *options]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def distill(folder: Path, out: Path, *options: str):
    config = (
        "--network-config",
        str(folder.parent / "network.toml"),
        "--cost-weights",
        "0,1",
        "--epochs",
        "40",
    )
    return run("distill", folder, out, *config, *options)


def routes(upstream: MockUpstream) -> tuple[str, ...]:
    """Sums go to `large`, whatever they cost; of poems `weak` and `small-poems` are asked, and the latter selected."""

    async def behave(received, request):
        messages = received.body["messages"]
        topic = (
            "sums"
            if any("numbers" in str(m["content"]) for m in messages if m["role"] == "user")
            else "poems"
        )
        if messages[-1]["role"] == "tool":
            reply = says(select("c1" if topic == "sums" else "c2"))
        elif topic == "sums":
            reply = says(call("call_large"))
        else:
            reply = says(call("call_weak", id_="a1"), call("call_small-poems", id_="a2"))
        return await reply(received, request)

    upstream.default = behave
    return ("--router-url", upstream.base_url, "--router-model", "qwen", "--router-price", "0.3/2")


def report(out: Path) -> dict:
    return json.loads((out / "distill.json").read_text())


def test_a_language_model_becomes_a_network(mock_upstream, folder, tmp_path):
    options = routes(mock_upstream)
    out = tmp_path / "run"
    shown = distill(folder, out, *options, "--limit-queries", "60", "--limit-test-queries", "16")
    assert len(mock_upstream.requests) == 2 * 2 * (60 + 16)
    found = report(out)
    assert found["agreement"]["student"]["all"]["value"] > 0.95
    assert found["agreement"]["profiles alone"]["all"]["value"] < 0.5
    assert "same decisions as the teacher: 1.000" in shown.output
    assert (found["learnt"]["queries"], found["learnt"]["episodes"]) == (60, 120)
    names = {result["name"] for result in found["results"]}
    assert {"teacher", "student", "profiles alone"} <= names
    costs = {r["name"]: r["points"][0]["cost_usd"]["value"] for r in found["results"]}
    assert costs["teacher"] == pytest.approx(costs["student"] + 2 * 0.00034)
    assert {path.name for path in out.iterdir()} >= {"policy.npz", "distill.md", "distill.png", "distill.svg"}
    text = (out / "distill.md").read_text()
    assert "Teacher: the language model qwen, by tool calls." in text
    assert "16 queries of the test split, out of 20" in text
    assert "nan" not in text
    assert load_network(out).name == "network"
    provenance = read_provenance(out)
    assert provenance.config["distilled_from"] == "the language model qwen, by tool calls"
    assert provenance.trained_on[0]["split"] == "train"
    with pytest.raises(ConfigurationError, match="holds a policy already"):
        distill(folder, out, *options)


def test_decisions_that_were_made_before_are_used_again(mock_upstream, folder, tmp_path):
    options = (*routes(mock_upstream), "--router-cost-weights", "0,1", "--no-baselines", "--points", "2")
    for split in ("train", "test"):
        run("evaluate", folder, tmp_path / split, "--split", split, *options)
    asked = len(mock_upstream.requests)
    files = [str(tmp_path / split / "decisions.jsonl") for split in ("train", "test")]
    out = tmp_path / "run"
    distill(folder, out, "--decisions", files[0], "--test-decisions", files[1])
    assert len(mock_upstream.requests) == asked
    found = report(out)
    assert found["agreement"]["student"]["all"]["value"] > 0.95
    teacher = next(result for result in found["results"] if result["name"] == "teacher")
    figures = {
        point["cost_weight"]: (point["score"]["value"], point["cost_usd"]["value"])
        for point in teacher["points"]
    }
    for point, figure in recompute(files[1], folder).items():
        assert figures[point] == pytest.approx(figure)


def test_own_words_and_stand_ins_are_counted_not_learnt(folder, tmp_path):
    def line(query: str, **fields):
        usual = {
            "query_id": query,
            "point": 0.1,
            "calls": ["weak"],
            "answer_from": "weak",
            "policy_cost_usd": 0.001,
        }
        return json.dumps(usual | fields)

    own = {"calls": [], "answer_from": None, "own_answer": "r80", "grader": "exact"}
    train = [line(f"q{i}") for i in range(20)]
    train += [line("q20", stood_in=True), line("q21", **own)]
    (tmp_path / "train.jsonl").write_text("\n".join(train))
    test = [line("q80", **own), line("q81", stood_in=True)]
    (tmp_path / "test.jsonl").write_text("\n".join(test))
    out = tmp_path / "run"
    files = ("--decisions", str(tmp_path / "train.jsonl"), "--test-decisions", str(tmp_path / "test.jsonl"))
    distill(folder, out, *files, "--epochs", "2")
    found = report(out)
    assert found["learnt"]["episodes"] == 20
    assert list(found["learnt"]["left_out"].values()) == [1, 1]
    teacher = next(result for result in found["results"] if result["name"] == "teacher")
    assert teacher["points"][0]["score"]["value"] == 0.5
    assert "the teacher called no model | 1" in (out / "distill.md").read_text()


def test_an_array_policy_teaches_and_another_is_shown_beside(folder, tmp_path):
    distill(folder, tmp_path / "first", "--teacher", "cascade", "--epochs", "2")
    distill(
        folder,
        tmp_path / "second",
        "--teacher",
        str(tmp_path / "first"),
        "--beside",
        str(tmp_path / "first"),
        "--epochs",
        "5",
    )
    found = report(tmp_path / "second")
    beside = next(name for name in found["agreement"] if name.startswith("network "))
    assert found["agreement"][beside]["all"]["value"] == 1.0  # it is the teacher
    assert set(found["decision_ms"]) == {"student", "profiles alone", beside, "teacher"}


TEACHER = ("--teacher", "knn")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--decisions"),
        (("--decisions", "/nowhere.jsonl", *TEACHER), "is not there"),
        (("--decisions", __file__, "--limit-queries", "5", *TEACHER), "leave out --limit-queries"),
        (("--teacher", "gpt-9"), "no policy at gpt-9"),
        (("--teacher", "tool-calling"), "--router-model"),
        ((*TEACHER, "--router-model", "qwen"), "--policy tool-calling"),
        ((*TEACHER, "--beside", "/nowhere"), "no policy at"),
        ((*TEACHER, "--cost-weights", "0,-1"), "zero or more"),
        ((*TEACHER, "--network-config", "/nowhere.toml"), "--network-config|--config"),
    ],
)
def test_options_that_do_not_do(folder, tmp_path, options, told):
    with pytest.raises(XRouterError, match=told):
        distill(folder, tmp_path / "run", *options)
    assert not (tmp_path / "run" / "policy.npz").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1 is not a decision"),
        ('{"query_id": "q0", "point": 0, "calls": ["gpt-9"], "answer_from": null}', "not in the pool"),
        ('{"query_id": "q0", "point": 0, "calls": ["weak"], "answer_from": "large"}', "was not called"),
        ('{"query_id": "q0", "point": 0, "calls": ["weak"], "turns": [1, 2], "answer_from": null}', "turns"),
        ('{"query_id": "elsewhere", "point": 0, "calls": [], "answer_from": null}', "none of its queries"),
        ('{"query_id": "q0", "point": 0, "calls": [], "answer_from": null}', "nothing to learn"),
    ],
)
def test_decisions_that_cannot_be_learnt_from(folder, tmp_path, line, told):
    (tmp_path / "train.jsonl").write_text(line)
    with pytest.raises(DataError, match=told):
        distill(folder, tmp_path / "run", "--decisions", str(tmp_path / "train.jsonl"), *TEACHER)


def test_queries_at_some_points_only_are_refused(folder, tmp_path):
    line = {"query_id": "q0", "point": 0, "calls": ["weak"], "answer_from": "weak"}
    lines = [line, {**line, "point": 1}, {**line, "query_id": "q1"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match="missing at point 1"):
        distill(folder, tmp_path / "run", "--decisions", str(tmp_path / "train.jsonl"), *TEACHER)

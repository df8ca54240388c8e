"""`xrouter evaluate --policy tool-calling`, against an endpoint on loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from outcomes_kit import synthetic_tables, write_tables
from recorded_router_kit import by_topic, policy_of
from router_llm_kit import call, says, select
from typer.testing import CliRunner
from upstream import MockUpstream

from xrouter.cli import app
from xrouter.errors import ConfigurationError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(synthetic_tables(), tmp_path / "kit")


def routes(upstream: MockUpstream) -> MockUpstream:
    """The right small model by topic, then its answer."""
    first = {"numbers": says(call("call_small-sums")), "verse": says(call("call_small-poems"))}

    async def behave(received, request):
        messages = received.body["messages"]
        if messages[-1]["role"] == "tool":
            return await says(select("c1"))(received, request)
        topic = "numbers" if "numbers" in messages[-1]["content"] else "verse"
        return await first[topic](received, request)

    upstream.default = behave
    return upstream


def evaluate(folder: Path, out: Path, *options: str):
    arguments = [
        "evaluate",
        "--outcomes",
        str(folder),
        "--out",
        str(out),
        "--points",
        "3",
        "--bootstrap",
        "20",
    ]
    result = CliRunner().invoke(app, [*arguments, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_it_is_judged_beside_others_on_the_same_queries(mock_upstream, folder, tmp_path):
    upstream = routes(mock_upstream)
    out = tmp_path / "report"
    options = (
        *("--policy", "tool-calling", "--policy", "cascade", "--limit-queries", "12", "--seed", "3"),
        *("--router-url", upstream.base_url, "--router-model", "qwen", "--router-price", "0.3/2"),
        *("--router-cost-weights", "0,1"),
    )
    shown = evaluate(folder, out, *options)
    assert len(upstream.requests) == 2 * 2 * 12
    report = json.loads((out / "report.json").read_text())
    by_name = {result["name"]: result for result in report["results"]}
    assert (report["setting"]["queries"], report["setting"]["drawn_from"]) == (12, 30)
    assert by_name["tool-calling"]["summary"]["max_score"]["value"] == 1.0
    assert len(by_name["tool-calling"]["points"]) == len(by_name["tool-calling"]["router"]) == 2
    assert by_name["cascade (judged)"]["points"]
    assert by_name["large"]["points"]
    text = (out / "report.md").read_text()
    assert "at random from 30 of the split, seed 3" in text
    assert "## tool-calling: the language model" in text
    assert shown.output.count("all equal to the report") == 2
    queries = {
        name: {json.loads(line)["query_id"] for line in (out / name).read_text().splitlines()}
        for name in ("decisions.jsonl", "decisions-2.jsonl")
    }
    assert queries["decisions.jsonl"] == queries["decisions-2.jsonl"]

    again = evaluate(folder, out, *options)
    assert len(upstream.requests) == 2 * 2 * 12
    assert "not asked for again" in again.output


def test_queries_without_a_reference_are_left_out_for_everyone(mock_upstream, tmp_path):
    tables = synthetic_tables()
    tables["queries"]["reference"][120] = None
    folder = write_tables(tables, tmp_path / "kit")
    upstream = routes(mock_upstream)
    out = tmp_path / "report"
    evaluate(
        folder,
        out,
        "--router-url",
        upstream.base_url,
        "--router-model",
        "qwen",
        "--router-price",
        "0/0",
        "--no-baselines",
    )
    setting = json.loads((out / "report.json").read_text())["setting"]
    assert (setting["queries"], setting["without_reference"], setting["drawn_from"]) == (29, 1, 0)
    assert "1 queries without a reference" in (out / "report.md").read_text()


ROUTER = ("--router-url", "http://router.example/v1", "--router-model", "qwen", "--router-price", "0.3/2")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (ROUTER, "--router-budget-usd"),
        ((*ROUTER, "--router-budget-usd", "free"), "--router-budget-usd must be"),
        ((*ROUTER, "--policy", "knn"), "--policy tool-calling"),
        ((*ROUTER, "--policy", "tool-calling", "--policy", "tool-calling"), "given twice"),
        ((*ROUTER, "--router-budget-usd", "1", "--router-cost-weights", "a"), "--router-cost-weights"),
        ((*ROUTER, "--router-budget-usd", "1", "--grader", "nobody"), "grader 'nobody'"),
        ((*ROUTER, "--router-budget-usd", "1", "--grader", "gsm8k=exact"), "'gsm8k'"),
        ((*ROUTER, "--router-budget-usd", "1", "--grader", "exact", "--grader", "math"), "two graders"),
        (("--policy", "tool-calling"), "--router-model"),
        (("--router-checkpoint", "/nowhere"), "config.json"),
        ((*ROUTER, "--router-checkpoint", "/nowhere"), "give one of them"),
    ],
)
def test_options_that_do_not_do(folder, tmp_path, options, told):
    with pytest.raises(ConfigurationError, match=told):
        evaluate(folder, tmp_path / "out", *options)


def test_outcomes_without_any_reference_are_refused(tmp_path):
    tables = synthetic_tables()
    del tables["queries"]["reference"]
    folder = write_tables(tables, tmp_path / "kit")
    with pytest.raises(DataError, match="'reference'"):
        evaluate(folder, tmp_path / "out", *ROUTER, "--router-budget-usd", "1")


def test_a_local_endpoint_needs_no_budget(mock_upstream, folder, tmp_path):
    upstream = routes(mock_upstream)
    evaluate(
        folder,
        tmp_path / "out",
        *("--router-url", upstream.base_url, "--router-model", "qwen", "--router-price", "0.3/2"),
        *("--limit-queries", "2", "--no-baselines"),
    )
    assert len(upstream.requests) == 4


def test_weights_on_disk_decide_within_the_process(folder, tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    asked = []

    def checkpoint_provider(path):
        asked.append(path)
        return policy_of(by_topic)[1]

    module = ModuleType("xrouter.training.trl.checkpoint_provider")
    module.checkpoint_provider = checkpoint_provider
    monkeypatch.setitem(sys.modules, "xrouter.training.trl", ModuleType("xrouter.training.trl"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xrouter.toml").write_text('[router_llm]\nmodel = "router-7b"\n')
    out = tmp_path / "out"
    evaluate(folder, out, "--router-checkpoint", str(weights), "--limit-queries", "4", "--no-baselines")
    assert asked == [weights]
    tool_calling = json.loads((out / "report.json").read_text())["results"][0]
    assert tool_calling["router"][0]["decisions"] == 2.0
    assert tool_calling["router"][0]["cost_usd"] == 0.0  # no price was given: its tokens are free

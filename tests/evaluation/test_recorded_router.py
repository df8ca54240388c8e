"""A language model that routes, played on recorded outcomes and judged beside array policies."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from outcomes_kit import synthetic_outcomes, synthetic_tables, write_tables
from recorded_router_kit import (
    TURN_USD,
    by_topic,
    calling,
    policy_of,
    question,
    results,
    says,
    selecting,
)

from xrouter.errors import (
    BudgetExceededError,
    ConfigurationError,
    DataError,
    ProviderAuthError,
    ProviderUnavailableError,
)
from xrouter.evaluation.decisions import check, recompute
from xrouter.evaluation.evaluate import Played, evaluate
from xrouter.evaluation.report import as_json, markdown
from xrouter.evaluation.tool_calling.asking import FAILURES_IN_A_ROW
from xrouter.evaluation.tool_calling.joined import joined
from xrouter.evaluation.tool_calling.play import JOURNAL, RouterRun, play_router
from xrouter.tasks.answer_key import load_answer_key

SMALL = 110e-6
"""US dollars of an answer of a model that costs 1 USD per million output tokens."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tables(synthetic_tables(), tmp_path_factory.mktemp("kit") / "kit")


@pytest.fixture(scope="module")
def outcomes(folder):
    return synthetic_outcomes(folder)


@pytest.fixture(scope="module")
def test_split(outcomes):
    return outcomes.split("test")


def play(rule, test, out, run=None, **options):
    policy, provider = policy_of(rule, **options)
    return play_router(policy, test, run or RouterRun(), out), provider


def judge(outcomes, folder, episodes):
    test = outcomes.split("test")
    decisions, router = joined(episodes, test, load_answer_key(folder))
    played = {"tool-calling": Played("router-7b", decisions, router)}
    found = evaluate(
        outcomes,
        policies={},
        train=outcomes.split("train"),
        cost_weights=(0.0, 1.0),
        bootstrap=20,
        played=played,
    )
    return found, found.named("tool-calling")


def written(result, tmp_path):
    path = tmp_path / "decisions.jsonl"
    result.decisions.write(path)
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def test_its_calls_and_its_own_tokens_are_its_cost(outcomes, folder, test_split, tmp_path):
    episodes, provider = play(by_topic, test_split, tmp_path)
    found, result = judge(outcomes, folder, episodes)
    assert len(provider.requests) == 2 * 30
    assert result.summary.max_score.value == 1.0
    assert result.points[0].cost_usd.value == pytest.approx(0.11 * SMALL + 2 * TURN_USD)
    router = result.router[0]
    assert (router.decisions, router.prompt_tokens, router.completion_tokens) == (2.0, 1000, 20)
    assert router.cost_usd == pytest.approx(2 * TURN_USD)
    assert (router.invalid, router.stood_in, router.own_words, router.unanswered) == (0, 0, 0, 0)
    path, lines = written(result, tmp_path)
    check(result.figures(), recompute(path, folder))
    assert lines[0] == {
        "query_id": "q120",
        "point": 0.1,
        "calls": ["small-sums"],
        "answer_from": "small-sums",
        "turns": [1],
        "policy_cost_usd": 0.00068,
    }
    text = markdown(found, "x")
    assert "tool-calling: the language model" in text
    assert "1000 + 20" in text
    assert as_json(found, "x")["results"][0]["router"][0]["cost_weight"] == 0.1


def test_answers_in_its_own_words_are_graded_after_playing(outcomes, folder, test_split, tmp_path):
    right = dict(zip(test_split.recording.prompts, test_split.query_ids, strict=True))

    def rule(request):
        query = int(right[question(request)][1:])
        if query % 2 == 0:
            return says(f"r{query}")  # a direct answer, right
        if not results(request):
            return calling("weak")
        return says("not that")  # a synthesis, wrong

    episodes, provider = play(rule, test_split, tmp_path)
    _, result = judge(outcomes, folder, episodes)
    for name, request in provider.requests:
        query = right[question(request)]
        assert query.replace("q", "r") not in json.dumps(request.messages), name
    point = result.points[0]
    assert point.score.value == pytest.approx(0.5)
    assert point.answered == {"(itself)": 1.0}
    assert result.router[0].own_words == 1.0
    # right without any call: neither a recall nor a selection failure; the others asked nobody who was right
    assert (point.failures.recall, point.failures.selection) == (0.5, 0.0)
    path, lines = written(result, tmp_path)
    check(result.figures(), recompute(path, folder))
    assert lines[0]["own_answer"] == "r120"
    assert lines[0]["grader"] == "exact"
    assert lines[0]["answer_from"] is None


def test_a_tampered_own_answer_is_found_out(outcomes, folder, test_split, tmp_path):
    episodes, _ = play(lambda request: says("r120"), test_split, tmp_path)
    _, result = judge(outcomes, folder, episodes)
    path, lines = written(result, tmp_path)
    lines[1]["own_answer"] = "r121"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match="score"):
        check(result.figures(), recompute(path, folder))


def test_the_answer_key_stays_out_of_every_decision(folder, test_split, tmp_path):
    tables = synthetic_tables()
    tables["queries"]["reference"] = ["other"] * len(tables["queries"]["reference"])
    other = synthetic_outcomes(tmp_path / "kit", tables).split("test")
    seen, _ = play(by_topic, test_split, tmp_path / "seen")
    unseen, _ = play(by_topic, other, tmp_path / "unseen")
    assert [one.calls for one in seen] == [one.calls for one in unseen]


def test_a_model_asked_twice_is_charged_twice(outcomes, folder, test_split, tmp_path):
    def rule(request):
        shown = results(request)
        if len(shown) == 2:
            return selecting(shown[1]["call_id"])
        return says(None, ("call_weak", {"temperature": 0.1 * len(shown)}))

    episodes, _ = play(rule, test_split, tmp_path, call_arguments=("temperature",))
    _, result = judge(outcomes, folder, episodes)
    called = [len(one.calls) for one in episodes]
    assert set(called) == {2}
    assert result.points[0].calls_per_query == 2.0
    assert result.points[0].cost_usd.value == pytest.approx(2 * 0.05 * SMALL + 3 * TURN_USD)
    path, lines = written(result, tmp_path)
    assert (lines[0]["calls"], lines[0]["turns"]) == (["weak", "weak"], [1, 2])
    check(result.figures(), recompute(path, folder))


def test_replies_that_make_no_sense_are_counted_and_a_model_stands_in(outcomes, folder, test_split, tmp_path):
    episodes, _ = play(lambda request: says(None, ("call_nobody", {})), test_split, tmp_path)
    _, result = judge(outcomes, folder, episodes)
    router = result.router[0]
    assert (router.invalid, router.stood_in, router.decisions, router.unanswered) == (1.0, 1.0, 3.0, 0.0)
    assert sum(router.problems.values()) == 3 * 30
    assert result.points[0].calls_per_query == 1.0


def test_without_a_stand_in_there_is_no_answer_and_what_was_spent_counts(
    outcomes, folder, test_split, tmp_path
):
    episodes, _ = play(
        lambda request: says(None, ("call_nobody", {})), test_split, tmp_path, on_failure="error"
    )
    _, result = judge(outcomes, folder, episodes)
    assert result.router[0].unanswered == 1.0
    assert result.points[0].score.value == 0.0
    assert result.points[0].cost_usd.value == pytest.approx(3 * TURN_USD)


def test_only_models_with_a_recording_are_offered(tmp_path):
    tables = synthetic_tables()
    keep = [
        (query, model) != ("q120", "small-sums")
        for query, model in zip(tables["outcomes"]["query_id"], tables["outcomes"]["model"], strict=True)
    ]
    tables["outcomes"] = {
        name: [value for value, kept in zip(column, keep, strict=True) if kept]
        for name, column in tables["outcomes"].items()
    }
    test = synthetic_outcomes(tmp_path / "kit", tables).split("test")
    _, provider = play(
        lambda request: says("?"), test.rows([0, 2]), tmp_path / "out", RouterRun(concurrency=1)
    )
    offered = [
        {tool["function"]["name"] for tool in request.params["tools"]} for _, request in provider.requests
    ]
    assert "call_small-sums" not in offered[0]
    assert "call_small-sums" in offered[-1]


def test_a_prompt_that_is_there_twice_has_its_own_row(tmp_path):
    tables = synthetic_tables()
    prompts = tables["queries"]["prompt"]
    prompts[122] = prompts[120]
    outcomes = synthetic_outcomes(write_tables(tables, tmp_path / "kit").parent / "kit", tables)
    test = outcomes.split("test")
    episodes, _ = play(by_topic, test.rows([0, 2]), tmp_path / "out")
    assert [one.query_id for one in episodes] == ["q120", "q122"]


def test_a_run_that_broke_off_asks_for_nothing_twice(test_split, tmp_path):
    first, provider = play(by_topic, test_split.rows(range(10)), tmp_path)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 20
    (tmp_path / JOURNAL).write_text("".join(lines[:8]) + lines[8][:30])  # cut short by a crash
    again, provider = play(by_topic, test_split.rows(range(10)), tmp_path)
    assert len(provider.requests) == 20 - 7
    assert [one.calls for one in again] == [one.calls for one in first]
    assert [one.policy_cost_usd for one in again] == [one.policy_cost_usd for one in first]
    _, provider = play(by_topic, test_split.rows(range(10)), tmp_path)
    assert not provider.requests


def test_a_budget_holds_and_a_larger_one_goes_on(test_split, tmp_path):
    small = RouterRun(budget_usd=Decimal("0.012"), concurrency=4)
    with pytest.raises(BudgetExceededError, match="--router-budget-usd"):
        play(by_topic, test_split, tmp_path, small)
    rows = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()[1:]]
    assert 0 < len(rows) < 60
    assert sum(Decimal(row["cost_usd"]) for row in rows) <= Decimal("0.012")
    episodes, provider = play(by_topic, test_split, tmp_path, RouterRun(budget_usd=Decimal(1)))
    assert len(provider.requests) == 60 - len(rows)
    assert len(episodes) == 30


def test_a_journal_of_other_questions_is_refused(test_split, tmp_path):
    play(by_topic, test_split.rows([0]), tmp_path)
    with pytest.raises(ConfigurationError, match="max_turns"):
        play(by_topic, test_split.rows([0]), tmp_path, RouterRun(max_turns=2))
    with pytest.raises(ConfigurationError, match="pool"):
        play(by_topic, test_split.rows([0]).pool(["weak", "large"]), tmp_path)
    (tmp_path / JOURNAL).write_text((tmp_path / JOURNAL).read_text() + '{"query_id": "q1"}\n')
    with pytest.raises(DataError, match="line 4"):
        play(by_topic, test_split.rows([0]), tmp_path)


def test_an_endpoint_that_is_down_ends_the_run(test_split, tmp_path):
    def down(request):
        raise ProviderUnavailableError("connection refused", model="router-7b")

    with pytest.raises(ConfigurationError, match=f"{FAILURES_IN_A_ROW} times in a row"):
        play(down, test_split, tmp_path)
    _, provider = play(by_topic, test_split, tmp_path)
    assert len(provider.requests) == 60  # failures are asked for again


def test_a_refused_key_ends_the_run_at_once(test_split, tmp_path):
    def refused(request):
        raise ProviderAuthError("401", model="router-7b")

    with pytest.raises(ConfigurationError, match="key"):
        play(refused, test_split, tmp_path, RouterRun(concurrency=1))


def test_an_endpoint_that_fails_now_and_then_is_counted(outcomes, folder, test_split, tmp_path):
    count = iter(range(10_000))

    def flaky(request):
        if next(count) % 3 == 2:
            raise ProviderUnavailableError("busy", model="router-7b")
        return by_topic(request)

    episodes, _ = play(flaky, test_split, tmp_path)
    _, result = judge(outcomes, folder, episodes)
    assert 0 < result.router[0].stood_in < 1
    assert result.router[0].problems["router_unavailable"] > 0


def test_each_cost_weight_is_a_point_of_its_own(outcomes, folder, test_split, tmp_path):
    def rule(request):
        if results(request):
            return selecting("c1")
        return calling("large" if "cost matters less" in str(request.messages[0]) else "weak")

    run = RouterRun(cost_weights=(0.0, 5.0))
    episodes, provider = play(rule, test_split, tmp_path, run)
    _, result = judge(outcomes, folder, episodes)
    assert [point.cost_weight for point in result.points] == [0.0, 5.0]
    told = {json.dumps(request.messages[0]) for _, request in provider.requests}
    assert len(told) > 1  # the model is told lambda
    assert result.decisions.turn_WQM.shape == (2, 30, 4)


def test_decisions_of_other_queries_are_refused(outcomes, folder, test_split, tmp_path):
    episodes, _ = play(by_topic, test_split.rows(range(5)), tmp_path)
    decisions, router = joined(episodes, test_split.rows(range(5)), load_answer_key(folder))
    with pytest.raises(ConfigurationError, match="other queries"):
        evaluate(
            outcomes, policies={}, train=outcomes.split("train"), played={"x": Played("1", decisions, router)}
        )
    with pytest.raises(DataError, match="not played"):
        joined(episodes, test_split, load_answer_key(folder))


def test_costs_are_those_recorded_not_those_of_the_price_list(tmp_path):
    tables = synthetic_tables()
    tables["outcomes"]["cost_usd"] = [2 * cost for cost in tables["outcomes"]["cost_usd"]]
    outcomes = synthetic_outcomes(tmp_path / "kit", tables)
    episodes, _ = play(by_topic, outcomes.split("test"), tmp_path / "out")
    _, result = judge(outcomes, tmp_path / "kit", episodes)
    assert result.points[0].cost_usd.value == pytest.approx(2 * 0.11 * SMALL + 2 * TURN_USD)


@pytest.mark.parametrize("fields", [{"cost_weights": ()}, {"cost_weights": (-1.0,)}, {"concurrency": 0}])
def test_runs_that_cannot_be(fields):
    with pytest.raises(ConfigurationError):
        RouterRun(**fields)

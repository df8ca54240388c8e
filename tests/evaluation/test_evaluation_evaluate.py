"""The whole evaluation on synthetic outcomes whose right figures are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from learner_kit import fitted_policy
from outcomes_kit import synthetic_outcomes, synthetic_tables, write_tables, zero_scores

from xrouter.errors import ConfigurationError, DataError
from xrouter.evaluation.contestants import baseline_policy
from xrouter.evaluation.decisions import check, play, recompute
from xrouter.evaluation.evaluate import DEFAULT_WEIGHTS, evaluate, sweep
from xrouter.evaluation.report import as_json, markdown

WEIGHTS = (0.0, 0.01, 1.0, 30.0)
JUDGED = ("knn", "cascade", "cluster", "static", "random", "network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tables(synthetic_tables(), tmp_path_factory.mktemp("kit") / "kit")


@pytest.fixture(scope="module")
def outcomes(folder):
    return synthetic_outcomes(folder)


def policy_named(name, train):
    """A baseline, or a network policy fitted on the train split."""
    return fitted_policy(train) if name == "network" else baseline_policy(name, train)


def judge(outcomes, names=("knn",), **options):
    train = outcomes.split("train")
    policies = {f"my {name}": policy_named(name, train) for name in names}
    return evaluate(
        outcomes, policies=policies, train=train, cost_weights=WEIGHTS, **{"bootstrap": 50, **options}
    )


@pytest.fixture(scope="module")
def found(outcomes):
    return judge(outcomes)


def test_the_sweep_starts_at_zero_and_ends_where_it_says():
    assert sweep(3, 10.0, 0.1) == (0.0, 0.1, 1.0, 10.0)
    assert DEFAULT_WEIGHTS[0] == 0.0
    assert DEFAULT_WEIGHTS[-1] == 1e4


def test_best_and_cheapest_and_their_figures(found):
    s = found.setting
    assert (s.best, s.cheapest, s.queries, s.train_queries) == ("large", "weak", 30, 120)
    assert s.best_score == pytest.approx(0.9)
    assert s.best_cost_usd == pytest.approx(10 * 110e-6)
    assert s.cheapest_cost_usd == pytest.approx(0.05 * 110e-6)


def test_known_figures_of_the_policies(found):
    knn = found.named("my knn")
    assert knn.summary.max_score.value == 1.0  # each topic's small model is always right
    assert knn.summary.gain.value == pytest.approx(0.1)
    assert knn.summary.saving[100].value == pytest.approx(1 - 0.11 / 10)
    assert found.named("oracle").summary.max_score.value == 1.0
    assert found.named("weak").summary.max_score.value == 0.0
    assert found.named("large").summary.saving[100].value == pytest.approx(0.0)
    assert found.named("all singles").summary.max_score.value == pytest.approx(0.9)
    assert {r.name for r in found.of_kind("baseline")} == {
        "random",
        "cheapest",
        "static",
        "knn",
        "cluster",
        "cascade",
    }


def test_the_union_is_at_least_as_good_as_each_member(found):
    union = found.named("knn + cascade").summary
    for name in ("knn", "cascade"):
        member = found.named(name).summary
        assert union.max_score.value >= member.max_score.value
        assert union.area.value >= member.area.value - 1e-12


def test_shares_calls_and_failures_of_a_point(found):
    free = found.named("my knn").points[0]
    assert free.calls_per_query == 1.0
    assert free.asked == free.answered == {"small-sums": 0.5, "small-poems": 0.5}
    assert (free.failures.recall, free.failures.selection, free.failures.beyond_pool) == (0, 0, 0)
    weak = found.named("weak").points[0]
    assert weak.failures.recall == 1.0


def test_intervals_hold_the_figure_and_are_the_same_for_a_seed(outcomes, found):
    for point in found.named("random").points:
        assert point.score.low <= point.score.value <= point.score.high
        assert point.score.low < point.score.high
    again = judge(outcomes)
    assert as_json(again, "x") == as_json(found, "x")
    assert markdown(again, "x") == markdown(found, "x")


def test_by_dataset_rows_sum_to_the_point(found):
    rows = found.named("my knn").datasets["max"]
    assert [r.dataset for r in rows] == ["kit/poems", "kit/sums"]
    assert [r.queries for r in rows] == [15, 15]
    assert rows[0].best_score == pytest.approx(1 - 3 / 15)
    assert rows[1].score == 1.0


@pytest.mark.parametrize("name", JUDGED)
def test_decisions_written_down_give_the_reported_figures(name, outcomes, folder, tmp_path):
    result = judge(outcomes, (name,)).judged[0]
    path = tmp_path / "decisions.jsonl"
    result.decisions.write(path)
    again = recompute(path, folder)
    check(result.figures(), again)
    assert len(again) == len(WEIGHTS)
    first = json.loads(path.read_text().splitlines()[0])
    assert first.keys() == {"query_id", "point", "calls", "answer_from"}
    assert len(path.read_text().splitlines()) == len(WEIGHTS) * 30


def test_scores_of_the_test_split_change_no_decision(outcomes, tmp_path):
    blind = synthetic_outcomes(tmp_path / "kit", zero_scores(synthetic_tables(), "test"))
    assert np.nansum(blind.split("test").score_QM) == 0.0
    for seen, unseen in zip(judge(outcomes, JUDGED).judged, judge(blind, JUDGED).judged, strict=True):
        seen.decisions.write(tmp_path / "seen.jsonl")
        unseen.decisions.write(tmp_path / "unseen.jsonl")
        assert (tmp_path / "seen.jsonl").read_bytes() == (tmp_path / "unseen.jsonl").read_bytes()
        assert unseen.summary.max_score.value == 0.0


def test_calls_are_written_in_the_order_they_were_made(outcomes):
    train, test = outcomes.split("train"), outcomes.split("test")
    decisions = play(baseline_policy("cascade", train), test.recording, test.query_ids, (0.0,), 3)
    for line in map(json.loads, decisions.lines()):
        turns = decisions.turn_WQM[0, test.query_ids.index(line["query_id"])]
        order = [turns[test.model_names.index(model)] for model in line["calls"]]
        assert order == sorted(order)
        assert 0 not in order


LINE = {"query_id": "q120", "point": 0.0, "calls": ["weak"], "answer_from": "weak"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1 is not a decision"),
        ([json.dumps({**LINE, "calls": ["nobody"]})], "no outcome of 'nobody'"),
        ([json.dumps({**LINE, "answer_from": "large"})], "was not called"),
        ([json.dumps(LINE), json.dumps(LINE)], "twice"),
        ([json.dumps(LINE), json.dumps({**LINE, "point": 1.0, "query_id": "q121"})], "other queries"),
    ],
)
def test_decisions_that_cannot_be_are_refused(lines, message, folder, tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        recompute(path, folder)


def test_an_unanswered_query_scores_nothing_and_costs_what_was_asked(folder, tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text(json.dumps({**LINE, "calls": ["large"], "answer_from": None}))
    assert recompute(path, folder) == {0.0: (0.0, pytest.approx(10 * 110e-6))}


def test_a_figure_that_differs_is_an_error():
    check({0.0: (0.5, 1e-4)}, {0.0: (0.5, 1e-4 * (1 + 1e-13))})
    with pytest.raises(DataError, match="score"):
        check({0.0: (0.5, 1e-4)}, {0.0: (0.51, 1e-4)})
    with pytest.raises(DataError, match="cost_usd"):
        check({0.0: (0.5, 1e-4)}, {0.0: (0.5, 1.001e-4)})
    with pytest.raises(DataError, match="points"):
        check({0.0: (0.5, 1e-4)}, {})


def test_an_answer_without_a_score_is_an_error(tmp_path):
    tables = synthetic_tables()
    tables["outcomes"]["score"][-1] = None
    with pytest.raises(DataError, match=r"'large'.*has no score"):
        judge(synthetic_outcomes(tmp_path / "kit", tables))


def test_models_with_few_outcomes_are_not_judged_alone_nor_best(tmp_path):
    tables = synthetic_tables()
    keep = [
        not (m == "large" and int(q[1:]) % 2)
        for q, m in zip(*(tables["outcomes"][c] for c in ("query_id", "model")), strict=True)
    ]
    tables["outcomes"] = {
        name: [v for v, k in zip(column, keep, strict=True) if k]
        for name, column in tables["outcomes"].items()
    }
    found = judge(synthetic_outcomes(tmp_path / "kit", tables))
    assert found.setting.left_out == ("large",)
    assert found.setting.best != "large"
    assert "large" not in {r.name for r in found.of_kind("single")}


def test_without_baselines_best_and_cheapest_remain(outcomes):
    found = judge(outcomes, with_baselines=False)
    assert [r.name for r in found.results] == ["my knn", "weak", "large"]


def test_pools_that_differ_are_refused(outcomes):
    with pytest.raises(ConfigurationError, match="one pool"):
        evaluate(outcomes, policies={}, train=outcomes.split("train").pool(["large"]))


def test_an_unknown_policy_name_lists_what_there_is(outcomes):
    with pytest.raises(ConfigurationError, match=r"knn.*small-sums"):
        baseline_policy("gpt-9", outcomes.split("train"))


def test_progress_counts_every_point(outcomes):
    seen = []
    judge(outcomes, progress=lambda name, done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

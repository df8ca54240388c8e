"""Peers beside our policies: adapters, embeddings kept, decision times, the report. No peer's package is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from learner_kit import fitted_policy
from outcomes_kit import kit_states, synthetic_outcomes
from synthetic import synthetic_outcomes as three_topics
from synthetic import write_outcomes
from typer.testing import CliRunner

from xrouter.episodes.cost import estimate_query_tokens
from xrouter.errors import ConfigurationError, DataError
from xrouter.evaluation.bench import Bench, bench, digest
from xrouter.evaluation.bench_report import write
from xrouter.evaluation.contestants import TrainFigures
from xrouter.evaluation.decision_time import decision_times, long_queries, pool_of
from xrouter.evaluation.peers.avengers import fit_avengers
from xrouter.evaluation.peers.catalog import PEERS, check_peers, fit_peer
from xrouter.evaluation.peers.chances import best_by_chance, best_first, softmax
from xrouter.evaluation.peers.embedding import Memory, Vectors
from xrouter.evaluation.peers.routellm import StrongOrWeak, pair
from xrouter.policies.baselines import Cheapest, SingleModel
from xrouter.tasks.outcomes import Outcomes

PRICES = {"cheap": 0.1, "middle": 1.0, "dear": 10.0}


def words(texts: Sequence[str]) -> Vectors:
    """An embedding without a model: hashed words."""
    out = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            out[row, sum(word.encode()) % 64] += 1.0
    return out


def asked(policy: object, outcomes: Outcomes, cost_weight: float) -> list[str]:
    from xrouter.evaluation.decisions import play

    decisions = play(policy, outcomes.recording, outcomes.query_ids, [cost_weight], 3)  # type: ignore[arg-type]
    return [outcomes.model_names[m] for m in decisions.answer_from_WQ[0]]


@pytest.fixture
def kit(tmp_path: Path) -> Outcomes:
    return synthetic_outcomes(tmp_path / "kit")


def test_avengers_ranks_models_by_cluster(kit: Outcomes) -> None:
    policy = fit_avengers(kit.split("train"), words)
    test = kit.split("test")
    right = [f"small-{name.rsplit('/', 1)[-1]}" for name in test.datasets]
    assert asked(policy, test, 0.01) == right
    assert set(asked(policy, test, 1e4)) == {"weak"}


def test_avengers_gives_a_model_without_outcomes_in_a_cluster_its_overall_mean(kit: Outcomes) -> None:
    train = kit.split("train")
    sums = np.array([name.endswith("sums") for name in train.datasets])
    train.recording.present_QM[sums, train.model_names.index("small-poems")] = False
    policy = fit_avengers(train, words)
    assert np.isfinite(policy.score_KN).all()
    assert np.isfinite(policy.cost_KN).all()


def test_a_chance_less_lambda_times_mean_cost_decides(kit: Outcomes) -> None:
    train = kit.split("train")
    large = train.model_names.index("large")
    assert TrainFigures.of(train).best == large
    assert best_first(train)[0] == large
    sure = np.zeros(len(train.model_names))
    sure[large], sure[train.model_names.index("small-sums")] = 0.7, 0.3
    policy = best_by_chance("peer", "1", train, lambda queries: np.tile(sure, (len(queries), 1)))
    # large costs 1 reference cost, the others next to nothing: it is worth that up to lambda 0.4
    assert set(asked(policy, kit.split("test"), 0.0)) == {"large"}
    assert set(asked(policy, kit.split("test"), 0.39)) == {"large"}
    assert set(asked(policy, kit.split("test"), 0.42)) == {"small-sums"}
    assert set(asked(policy, kit.split("test"), 1e4)) == {"weak"}


def test_softmax_sums_to_one_and_keeps_the_order() -> None:
    chances = softmax(np.array([[1000.0, 999.0, -1000.0]]))
    assert chances.sum() == pytest.approx(1.0)
    assert chances[0, 0] / chances[0, 1] == pytest.approx(np.e)


def test_routellms_threshold_goes_from_all_strong_to_all_weak() -> None:
    rates = np.linspace(0.0, 1.0, 101)
    router = SimpleNamespace(calculate_strong_win_rate=lambda query: float(query))
    policy = StrongOrWeak("dear", "cheap", router, rates, "1")

    def strong_share(cost_weight: float) -> float:
        queries = [str(rate) for rate in rates]
        states = [kit_states(PRICES, cost_weight=cost_weight) for _ in queries]
        calls = [
            policy.decide(policy.encode([q]), s).call_BM[0] for q, s in zip(queries, states, strict=True)
        ]
        assert not any(call[1] for call in calls)
        return float(np.mean([call[2] for call in calls]))

    shares = [strong_share(weight) for weight in (0.0, 1e-3, 0.1, 10.0, 1e4)]
    assert shares[:2] == [1.0, 1.0]
    assert shares[-1] == 0.0
    assert shares == sorted(shares, reverse=True)
    assert 0.3 < strong_share(10**0.5) < 0.7


def test_routellms_pair_is_best_and_the_best_of_the_cheap(kit: Outcomes) -> None:
    train = kit.split("train")
    strong, weak = pair(train)
    assert train.model_names[strong] == "large"
    assert train.model_names[weak].startswith("small")
    with pytest.raises(DataError, match=r"no model costs at most 0\.1"):
        pair(train.pool(["small-sums", "small-poems"]))


def test_texts_are_embedded_once_and_kept(tmp_path: Path) -> None:
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> Vectors:
        seen.extend(texts)
        return words(texts)

    path = tmp_path / "deep" / "embeddings.npz"
    memory = Memory(counting, path)
    assert (memory(["a b", "c"]) == words(["a b", "c"])).all()
    memory(["c", "d"])
    assert seen == ["a b", "c", "d"]
    with memory.forgetting():
        memory(["c"])
    memory(["c"])
    assert seen == ["a b", "c", "d", "c"]
    assert (Memory(None, path)(["d", "a b"]) == words(["d", "a b"])).all()
    with pytest.raises(ConfigurationError):
        Memory(None, path)(["new"])


def test_a_file_that_holds_no_embeddings_is_named(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match=r"embeddings\.npz"):
        Memory(words, path)


@pytest.mark.parametrize(
    ("name", "package"),
    [("knn", "llmrouter.models.knnrouter.router"), ("routellm", "routellm.routers.routers")],
)
def test_a_missing_package_is_named_with_how_to_get_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package.partition(".")[0], None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=r"pip install -r benchmarks/requirements\.txt"):
        check_peers([name])


def test_an_unknown_peer_is_an_error_that_lists_them_all() -> None:
    with pytest.raises(ConfigurationError, match=", ".join(PEERS)):
        check_peers(["avengers", "oracle"])


def test_long_queries_and_pools_are_as_long_as_asked() -> None:
    queries = long_queries(["short", "a somewhat longer text " * 50], 3, tokens=500)
    assert [estimate_query_tokens(query) for query in queries] == pytest.approx([500] * 3, abs=15)
    pool = pool_of(three_topics(models=5).models, 24)
    assert len({model.name for model in pool}) == 24
    assert pool_of(pool, 3) == pool[:3]


def test_decisions_are_timed_until_the_time_is_up() -> None:
    outcomes = three_topics(queries=30)
    policies = {"cheapest": Cheapest(), "model-2": SingleModel("model-2")}
    times = decision_times(policies, outcomes.recording.prompts, outcomes.models)
    assert all(time.queries == 30 and 0 < time.median_ms <= time.p95_ms for time in times.values())
    brief = decision_times(policies, outcomes.recording.prompts, outcomes.models, at_most_s=1e-9)
    assert {time.queries for time in brief.values()} == {1}


def test_fits_are_kept_apart_by_what_they_were_fitted_on(kit: Outcomes) -> None:
    train = kit.split("train")
    first = digest(train, 0)
    assert first == digest(train, 0)
    assert (
        len({first, digest(train, 1), digest(train.rows([0, 1]), 0), digest(train.pool(["large"]), 0)}) == 4
    )
    train.score_QM[0, 0] = 0.5
    assert digest(train, 0) != first


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    outcomes = three_topics(seed=3, queries=150)
    return bench(
        outcomes,
        policies={"network": fitted_policy(outcomes)},
        peers=["avengers"],
        memory=Memory(words),
        folder=tmp_path_factory.mktemp("peers"),
        bootstrap=50,
        cost_weights=(0.0, 0.1, 1.0, 100.0),
        timed=5,
    )


def test_everyone_is_judged_and_timed_on_the_same(found: Bench) -> None:
    everyone = {"network", "Avengers clustering", "static", "knn", "cluster", "cascade"}
    shown = {result.name: result for result in found.shown}
    assert set(shown) == everyone | {"knn + cascade", "all singles", "oracle"}
    assert set(found.times) == everyone
    assert {time.queries for time in found.times.values()} == {5}
    assert set(found.long_times) == everyone - {"Avengers clustering"}
    assert found.fit_s["Avengers clustering"] > 0
    assert np.isnan(found.fit_s["network"])
    assert all(len(shown[name].points) == 4 for name in everyone)


def test_the_report_says_what_was_found(found: Bench, tmp_path: Path) -> None:
    write(found, tmp_path, "xrouter bench --outcomes outcomes/mine")
    report = (tmp_path / "bench.md").read_text()
    read = json.loads((tmp_path / "bench.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {
        "bench.md",
        "bench.json",
        "frontier.png",
        "frontier.svg",
    }
    assert "    xrouter bench --outcomes outcomes/mine\n" in report
    assert report.count("| **network** |") == 2
    assert "alpha = 1 / (1 + lambda)" in report
    assert read["fit_s"]["network"] is None
    by_name = {result["name"]: result for result in read["results"]}
    area = by_name["Avengers clustering"]["summary"]["area"]["value"]
    row = next(line for line in report.splitlines() if line.startswith("| Avengers clustering |"))
    assert f"{area:.3f} [" in row
    assert read["decision_ms"]["knn"]["queries"] == 5


def test_the_command_writes_a_report_without_any_peer(tmp_path: Path) -> None:
    from xrouter.cli.bench import bench as command

    app = typer.Typer()
    app.command()(command)
    folder = write_outcomes(tmp_path / "made-up", three_topics(queries=60))
    options = [
        "--policy",
        "static",
        "--models",
        "all",
        "--peers",
        "none",
        "--bootstrap",
        "20",
        "--timed",
        "3",
    ]
    result = CliRunner().invoke(app, ["--outcomes", str(folder), "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "bench.md").is_file()
    assert "| **static (judged)** |" in result.output
    result = CliRunner().invoke(app, ["--outcomes", str(folder), "--out", str(tmp_path), "--peers", "nobody"])
    assert isinstance(result.exception, ConfigurationError)


@pytest.mark.parametrize("name", [name for name in PEERS if name != "avengers"])
def test_a_peer_that_is_installed_learns_whom_to_ask(name: str, kit: Outcomes, tmp_path: Path) -> None:
    pytest.importorskip("routellm" if name == "routellm" else "torch_geometric")
    if name != "routellm":
        pytest.importorskip("llmrouter")
    train, test = kit.split("train"), kit.split("test")
    fitted = fit_peer(name, train, Memory(words), tmp_path)
    assert fitted.fit_s > 0
    again = fit_peer(name, train, Memory(words), tmp_path)
    assert name == "routellm" or again.fit_s == fitted.fit_s
    for weight in (0.0, 0.3, 1e4):
        assert asked(again.policy, test, weight) == asked(fitted.policy, test, weight)
    if name == "routellm":
        assert set(asked(fitted.policy, test, 1e4)) == {train.model_names[pair(train)[1]]}
        assert set(asked(fitted.policy, test, 0.0)) == {"large"}
        return
    assert set(asked(fitted.policy, test, 1e4)) == {"weak"}
    small = [f"small-{dataset.rsplit('/', 1)[-1]}" for dataset in test.datasets]
    chance = fitted.policy.encode(test.recording.prompts)[:, : len(train.model_names)]
    assert chance.sum(1) == pytest.approx(1.0)
    if name != "graph":
        # large is right on nine queries of ten, and the first of equals
        assert asked(fitted.policy, test, 0.0).count("large") > 0.7 * len(test)
        right = [float(row[train.model_names.index(model)]) for row, model in zip(chance, small, strict=True)]
        assert np.mean(right) > 0.05

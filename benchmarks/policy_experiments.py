"""The experiments behind docs/experiments/policy.md: what helps, on held-out queries of the train split alone.

    python benchmarks/policy_experiments.py ablation outcomes/zeroeval outcomes/mmlu_pro --out runs/ablation.jsonl
    python benchmarks/policy_experiments.py unseen-models outcomes/zeroeval --out runs/unseen_models.jsonl
    python benchmarks/policy_experiments.py unseen-benchmarks outcomes/zeroeval --out runs/unseen_benchmarks.jsonl
    python benchmarks/policy_experiments.py table runs/ablation.jsonl
    python benchmarks/policy_experiments.py seeds reports/zeroeval/report.json

Each variant is one line of the JSONL file; a run that is stopped goes on where it was. Those experiments never read the
test split. `seeds` sums up a report of `xrouter evaluate` over several runs that differ in their seed alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from xrouter.episodes.cost import estimate_query_tokens
from xrouter.evaluation.evaluate import evaluate
from xrouter.evaluation.result import Result
from xrouter.policies.network import NetworkPolicy
from xrouter.policies.probing import Probes, add_model
from xrouter.policies.states import ArrayPolicy
from xrouter.tasks.outcomes import Outcomes, load_outcomes
from xrouter.training.config import TrainingConfig
from xrouter.training.trainer import Trainer, hold_out, prepare

FOLD = 100
HELD_OUT = 0.2
ABLATION: Mapping[str, Mapping[str, Any]] = {
    "as it ships": {},
    "no training (hand-made start)": {"warm_steps": 0, "dapo_steps": 1, "learning_rate": 0.0},
    "warm start alone": {"dapo_steps": 0},
    "fitted values, as long": {"warm_steps": 420, "dapo_steps": 0},
    "REINFORCE": {"algorithm": "reinforce"},
    "GRPO": {"algorithm": "grpo"},
    "DAPO, divided by the group's deviation": {"scale": "group"},
    "evolution of the head": {"algorithm": "evolution"},
    "recorded worlds only": {"sampling": {"imagined_share": 0.0}},
    "imagined worlds only": {"sampling": {"imagined_share": 1.0}},
    "trained for three decisions": {"max_turns": 3},
}
FIGURES = ("max_score", "gain", "save_100", "save_98", "save_95", "area", "calibration")


def as_test(outcomes: Outcomes) -> Outcomes:
    return replace(outcomes, splits=("test",) * len(outcomes))


def trained(sets: Sequence[Outcomes], config: TrainingConfig) -> NetworkPolicy:
    trainer = Trainer(prepare(sets, config), config)
    trainer.run(lambda metrics: None)
    return trainer.calibrated_policy()


def judged(policies: Mapping[str, ArrayPolicy], train: Outcomes, held: Outcomes) -> dict[str, Result]:
    done = evaluate(as_test(held), policies=policies, train=train, bootstrap=2, with_baselines=False)
    return {result.name: result for result in done.results if result.name in policies}


def figures(result: Result) -> dict[str, float | None]:
    summary = result.summary
    values = {
        "max_score": summary.max_score.value,
        "gain": summary.gain.value,
        **{f"save_{percent}": summary.saving[percent].value for percent in (100, 98, 95)},
        "area": summary.area.value,
        "calibration": result.reliability.error if result.reliability else float("nan"),
    }
    return {name: None if np.isnan(value) else round(float(value), 5) for name, value in values.items()}


class Log:
    """One JSON object a line; what is there already is not done again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def has(self, **key: Any) -> bool:
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def ablation(folders: Sequence[Path], seeds: Sequence[int], log: Log, variants: Sequence[str]) -> None:
    for seed in seeds:
        for folder in folders:
            train, held = hold_out(load_outcomes(folder).pool().split("train"), HELD_OUT, FOLD)
            assert held is not None
            for name in variants:
                key = {"set": folder.name, "variant": name, "seed": seed}
                if log.has(**key):
                    continue
                config = TrainingConfig.from_dict({**ABLATION[name], "seed": seed})
                started = time.perf_counter()
                policy = trained([train], config)
                seconds = time.perf_counter() - started
                result = judged({"policy": policy}, train, held)["policy"]
                log.add({**key, **figures(result), "train_seconds": round(seconds)})


def unseen_models(folders: Sequence[Path], seeds: Sequence[int], log: Log) -> None:
    """Every fourth model by training score, the best among them, is kept from the policy; then it joins by probes."""
    for folder in folders:
        outcomes = load_outcomes(folder).pool().split("train")
        train, held = hold_out(outcomes, HELD_OUT, FOLD)
        assert held is not None
        ranked = np.argsort(-np.nanmean(train.score_QM, 0), kind="stable")
        new = [train.model_names[i] for i in ranked[::4]]
        old = [name for name in train.model_names if name not in new]
        for seed in seeds:
            if log.has(set=folder.name, seed=seed):
                continue
            config = TrainingConfig(seed=seed)
            before = trained([train.pool(old)], config)
            policies: dict[str, ArrayPolicy] = {"trained with them": trained([train], config)}
            for count in (0, 20, 50, 100):
                policies[f"{count} probes"] = probed(before, train, new, count, seed)
            results = judged(policies, train, held)
            without = judged({"without them": before}, train.pool(old), held.pool(old))
            for name, result in (without | results).items():
                log.add({"set": folder.name, "variant": name, "seed": seed, **figures(result), "new": new})


def probed(
    policy: NetworkPolicy, train: Outcomes, new: Sequence[str], count: int, seed: int
) -> NetworkPolicy:
    """The policy with these models added by `count` random training questions each."""
    if not count:
        return policy
    profiles, rng = policy.profiles, np.random.default_rng(seed)
    rows = rng.choice(len(train), count, replace=False)
    asked = train.rows(rows)
    text = policy.encode(asked.recording.prompts)
    estimate = np.array([estimate_query_tokens(prompt) for prompt in asked.recording.prompts], np.float64)
    for name in new:
        m = train.model_names.index(name)
        record = asked.recording
        probes = Probes(
            text_PD=text,
            score_P=np.nan_to_num(asked.score_QM[:, m]),
            tokens_P=record.tokens_QM[:, m].astype(np.float64),
            prompt_tokens_P=record.prompt_tokens_QM[:, m].astype(np.float64),
            estimate_P=estimate,
        )
        profiles = add_model(profiles, train.models[m], probes)
    return NetworkPolicy(
        policy.encoder, profiles, policy.parameters, policy.payoff, calibration=policy.calibration
    )


def unseen_benchmarks(folders: Sequence[Path], seeds: Sequence[int], log: Log) -> None:
    """Each dataset is left out of training in turn and then routed, beside the policy that was trained on all."""
    for folder in folders:
        outcomes = load_outcomes(folder).pool().split("train")
        train, held = hold_out(outcomes, HELD_OUT, FOLD)
        assert held is not None
        names = sorted(set(outcomes.datasets))
        for seed in seeds:
            config = TrainingConfig(seed=seed)
            whole: NetworkPolicy | None = None
            for dataset in names:
                if log.has(set=folder.name, dataset=dataset, seed=seed):
                    continue
                whole = whole or trained([train], config)
                others = [name for name in names if name != dataset]
                here, there = train.datasets_named([dataset]), held.datasets_named([dataset])
                policies: dict[str, ArrayPolicy] = {
                    "never saw it": trained([train.datasets_named(others)], config),
                    "trained with it": whole,
                }
                for name, result in judged(policies, here, there).items():
                    log.add(
                        {
                            "set": folder.name,
                            "dataset": dataset,
                            "variant": name,
                            "seed": seed,
                            **figures(result),
                        }
                    )


def table(path: Path) -> str:
    """Means over seeds with 95% t-intervals."""
    rows = Log(path).rows
    keys = [key for key in ("set", "dataset", "variant") if any(key in row for row in rows)]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(str(row[key]) for key in keys)].append(row)
    lines = [
        "| " + " | ".join([*keys, "seeds", *FIGURES]) + " |",
        "|" + "---|" * (len(keys) + 1 + len(FIGURES)),
    ]
    for group, members in groups.items():
        cells = [interval([row.get(figure) for row in members]) for figure in FIGURES]
        lines.append("| " + " | ".join([*group, str(len(members)), *cells]) + " |")
    return "\n".join(lines)


def seeds_table(path: Path) -> str:
    """The policies of a report as one row: means over seeds with 95% t-intervals; beside them the baselines."""
    report = json.loads(path.read_text())
    rows = defaultdict(list)
    for result in report["results"]:
        if result["kind"] in ("policy", "baseline", "union", "oracle"):
            name = "network, mean over seeds" if result["kind"] == "policy" else result["name"]
            rows[name].append(_of_report(result, report["setting"]["best_score"]))
    names = list(_of_report(report["results"][0], 0.0))
    lines = ["| | runs | " + " | ".join(names) + " |", "|---|" + "---:|" * (1 + len(names))]
    for name, members in rows.items():
        cells = [interval([member[figure] for member in members]) for figure in names]
        lines.append(f"| {name} | {len(members)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _of_report(result: Mapping[str, Any], best_score: float) -> dict[str, float | None]:
    """Figures of one result; the two failures are those of its cheapest point at 98% of best's score."""
    summary = result["summary"]
    good = [p for p in result["points"] if p["score"]["value"] >= 0.98 * best_score - 1e-9]
    at = min(good, key=lambda p: p["cost_usd"]["value"])["failures"] if good else None
    calibration = result.get("calibration") or {}
    return {
        "max score": summary["max_score"]["value"],
        **{f"save@{percent}": summary["saving"][percent]["value"] for percent in ("100", "98", "95")},
        "area": summary["area"]["value"],
        "calibration error": calibration.get("error"),
        "recall failures": at["recall"] if at else None,
        "selection failures": at["selection"] if at else None,
    }


def interval(values: Sequence[float | None]) -> str:
    """mean ± half the 95% interval of the mean over seeds; '-' where some seed never got there."""
    if any(value is None or np.isnan(value) for value in values):
        return "-"
    x = np.array(values, np.float64)
    if len(x) == 1:
        return f"{x[0]:.3f}"
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return f"{x.mean():.3f} ± {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "experiment", choices=["ablation", "unseen-models", "unseen-benchmarks", "table", "seeds"]
    )
    parser.add_argument("paths", nargs="+", type=Path, help="outcomes folders, or the JSONL file of a table")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments.jsonl"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=list(ABLATION), choices=list(ABLATION))
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.seeds)
    if options.experiment == "table":
        print(table(options.paths[0]))
    elif options.experiment == "seeds":
        print(seeds_table(options.paths[0]))
    elif options.experiment == "ablation":
        ablation(options.paths, seeds, Log(options.out), options.variants)
    elif options.experiment == "unseen-models":
        unseen_models(options.paths, seeds, Log(options.out))
    else:
        unseen_benchmarks(options.paths, seeds, Log(options.out))


if __name__ == "__main__":
    main()

"""What training a language model to route would take: GPU hours, and dollars for GPUs and for the models that it calls.

    python benchmarks/router_training_cost.py data/mine --parameters 7.6e9 --calls-usd 0.004

Prompt lengths are those of the data, turns and replies what the options say; speeds and prices are assumptions until you put in
your own. `training/router/estimate.py` has the arithmetic and where it comes from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from xrouter.evaluation.tables import table
from xrouter.training.dataset.rows import load_samples
from xrouter.training.router.estimate import Episodes, Estimate, Hardware, Schedule, estimate

DEFAULTS = Hardware()
HEAD = ("steps of", "GPU hours: writing", "reading", "learning", "all", "GPU $", "calls $")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    samples = load_samples(options.data / "train.parquet", options.samples)
    episodes = Episodes(
        fmean(sample.prompt_tokens for sample in samples), options.written, options.shown, options.calls_usd
    )
    hardware = Hardware(options.tflops, options.utilisation, options.tokens_per_s, options.usd_per_hour)
    print(
        f"{options.parameters / 1e9:g}B parameters, {options.steps} steps; an episode: {episodes.prompt:.0f} tokens of prompt,"
        f" {episodes.written:g} written, {episodes.shown:g} shown\n"
    )
    full = Schedule(options.steps, options.prompts, options.rollouts, options.kept)
    small = replace(full, prompts=max(1, options.prompts // 8))
    rows = [
        row(schedule, estimate(options.parameters, episodes, schedule, hardware))
        for schedule in (full, small)
    ]
    print(table(HEAD, rows, "lrrrrrr"))


def row(schedule: Schedule, found: Estimate) -> list[str]:
    hours = (found.decode_hours, found.prefill_hours, found.train_hours, found.gpu_hours)
    money = (found.gpu_usd, found.calls_usd)
    name = f"{schedule.prompts} x {schedule.rollouts}"
    return [name, *(f"{value:.1f}" for value in hours), *(f"{value:,.0f}" for value in money)]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of `xrouter dataset build`")
    parser.add_argument("--samples", type=int, default=2_000, help="read at most so many of its samples")
    parser.add_argument("--parameters", type=float, default=7.6e9)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=512, help="of a step")
    parser.add_argument("--rollouts", type=int, default=4, help="of a prompt")
    parser.add_argument(
        "--kept",
        type=float,
        default=1.0,
        help="share of groups whose rewards differ; others are played again",
    )
    parser.add_argument(
        "--written", type=float, default=80.0, help="tokens that the router writes an episode"
    )
    parser.add_argument(
        "--shown", type=float, default=400.0, help="tokens of responses that it reads an episode"
    )
    parser.add_argument(
        "--calls-usd", type=float, default=0.0, help="USD that the called models cost an episode"
    )
    parser.add_argument(
        "--tflops", type=float, default=DEFAULTS.peak_tflops, help="dense bf16 peak of one GPU"
    )
    parser.add_argument("--utilisation", type=float, default=DEFAULTS.utilisation)
    parser.add_argument(
        "--tokens-per-s",
        type=float,
        default=DEFAULTS.decode_tokens_per_s,
        help="written, on one GPU, all together",
    )
    parser.add_argument("--usd-per-hour", type=float, default=DEFAULTS.usd_per_hour, help="of one GPU")
    return parser


if __name__ == "__main__":
    main()

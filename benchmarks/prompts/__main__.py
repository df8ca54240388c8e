"""Does a system prompt that a router writes help? A paired experiment with any models of a settings file.

    python -m benchmarks.prompts run --config xrouter.toml --models model-a,model-b --writer model-a \\
        --outcomes outcomes --questions 100 --out runs/prompts
    python -m benchmarks.prompts table --models model-a,model-b --writer model-a --outcomes outcomes --questions 100 --out runs/prompts

Every question is asked in every arm of plan.toml, by every model. A run that is stopped, by itself after --minutes, goes on
where it was; the table counts questions that were answered in all arms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from xrouter.cli.collect import named_pool
from xrouter.providers.pool import Pool
from xrouter.tasks.collection import Limits, collect
from xrouter.tasks.journal import Journal
from xrouter.tasks.task import Task

from .questions import Questions, Rows, choosing, chosen, judging, questions, writing
from .table import measured, table

PLAN = Path(__file__).with_name("plan.toml")
LONGEST_CALL_S = 600.0
log = logging.getLogger("benchmarks.prompts")


async def run(options: argparse.Namespace, plan: Mapping[str, Any], found: Questions) -> None:
    """Model by model, block by block; between two blocks the clock is looked at. Raises SystemExit where calls fail."""
    limits = Limits(
        Decimal(options.max_cost_usd), options.concurrency, plan["max_output_tokens"], LONGEST_CALL_S
    )
    ends = time.monotonic() + 60 * options.minutes
    with (
        Journal(options.out / "journal.jsonl", resume=True) as journal,
        Progress(console=Console(stderr=True)) as progress,
    ):
        async with aclosing(named_pool([options.writer], options.config)) as writer:
            for name in options.models:
                bar = progress.add_task(name, total=len(found.judged))
                async with aclosing(named_pool([name], options.config)) as pool:
                    await ask(choosing(plan, found), pool, journal, limits)
                    of_kind = chosen(plan, found, journal.answered, name)
                    log.info("%s: written prompts %s", name, json.dumps(of_kind))
                    for start in range(0, len(found.judged), options.block):
                        block = found.judged[start : start + options.block]
                        await ask(writing(plan, block), writer, journal, limits)
                        tasks = judging(plan, block, journal.answered, options.writer, of_kind)
                        await ask(tasks, pool, journal, limits)
                        progress.update(bar, advance=len(block))
                        log.info("%s: %d of %d questions", name, start + len(block), len(found.judged))
                        if time.monotonic() > ends:
                            log.info("stopped after %s minutes", options.minutes)
                            return


async def ask(tasks: Iterator[Task], pool: Pool, journal: Journal, limits: Limits) -> None:
    """Raises SystemExit where a call failed or the money is spent."""
    ended = await collect(list(tasks), pool, journal, limits)
    if ended.failed or ended.stopped != "done":
        error = next((row.error for row in reversed(journal.rows) if row.error), "none")
        raise SystemExit(f"{ended.failed} calls failed, stopped: {ended.stopped}, last error: {error}")


def report(options: argparse.Namespace, plan: Mapping[str, Any], found: Questions, rows: Rows) -> str:
    lines = [table(measured(plan, found, rows, options.models, options.writer), options.base)]
    ids = [(question.id_in("write"), options.writer) for question in found.judged]
    tokens = [rows[key].completion_tokens for key in ids if key in rows]
    if tokens:
        lines.append(f"{options.writer} wrote {len(tokens)} prompts, {np.mean(tokens):.1f} tokens each.")
    return "\n\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--config", type=Path, help="settings file with the models; default: xrouter.toml")
    parser.add_argument(
        "--models", required=True, type=lambda names: names.split(","), help="with commas between"
    )
    parser.add_argument("--writer", required=True, help="the model that writes a prompt for each question")
    parser.add_argument(
        "--outcomes", type=Path, help="folder with sets of recorded outcomes; without: no such kinds"
    )
    parser.add_argument("--questions", type=int, default=100, help="judged questions of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after the block that gets there")
    parser.add_argument("--block", type=int, default=32, help="questions between two looks at the clock")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--max-cost-usd", default="1.00", help="for all of it, earlier runs included")
    parser.add_argument("--base", default="none", help="the arm with which the others are compared")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--out", type=Path, default=Path("runs/prompts"), help="journal and log")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=options.out / "run.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    plan = tomllib.loads(options.plan.read_text(encoding="utf-8"))
    found = questions(plan, options.questions, options.outcomes)
    if options.command == "run":
        asyncio.run(run(options, plan, found))
    with Journal(options.out / "journal.jsonl", resume=True) as journal:
        print(report(options, plan, found, journal.answered))


if __name__ == "__main__":
    main()

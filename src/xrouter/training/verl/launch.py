"""A run on disk and verl's process that trains it.

RUN/terms.json (our settings, paths absolute), RUN/agent_loops.yaml (declares our loop to verl), RUN/verl.yaml (verl's whole
configuration, composed and validated), RUN/launch.sh (the command), and what verl writes: checkpoints/, episodes/,
validation/, metrics-N.jsonl (one for each start: verl's `file` logger begins anew).
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, DataError
from .compose import composed, write
from .export import export_latest
from .overrides import CHECKPOINTS, LOOP_CLASS, LOOP_NAME, overrides
from .settings import VerlSettings
from .terms import write_terms

TERMS, LOOPS, CONFIG, COMMAND = "terms.json", "agent_loops.yaml", "verl.yaml", "launch.sh"


def train(
    config: Path,
    out: Path,
    *,
    dry_run: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Prepares the run in `out` and has verl train it; the last checkpoint ends up in RUN/model as Hugging Face weights.

    dry_run: prepares and validates alone. resume: go on from the last checkpoint in `out`.
    Raises ConfigurationError for settings that we or verl refuse, DataError for data that does not fit them.
    """
    command = prepare(config, out, resume=resume)
    say(f"configuration, as verl read and checked it: {out / CONFIG}")
    say(f"command: {shlex.join(command)}")
    if dry_run:
        return
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise ConfigurationError(
            f"verl ended with exit code {done.returncode}; mend what it says above and go on with --resume"
        )
    say(f"trained weights: {export_latest(out)}")


def prepare(config: Path, out: Path, *, resume: bool = False) -> list[str]:
    """Writes the run's files and gives the command that trains. Raises as `train` does."""
    run = out.expanduser().resolve()
    if (run / CHECKPOINTS).exists() and not resume:
        raise ConfigurationError(
            f"{out} holds checkpoints of a run: go on with it (--resume) or name another folder", param="out"
        )
    training = write_terms(config, run / TERMS)
    check_data(training.data, training.trainer)
    loops = run / LOOPS
    declared = [{"name": LOOP_NAME, "_target_": LOOP_CLASS, "terms": str(run / TERMS)}]
    loops.write_text(json.dumps(declared, indent=1), encoding="utf-8")  # JSON is YAML
    write(composed(overrides(training, run, loops)), run / CONFIG)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path", str(run), "--config-name"]
    command += [Path(CONFIG).stem, f"hydra.run.dir={run / 'hydra'}", "hydra.output_subdir=null"]
    script = run / COMMAND
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n", encoding="utf-8")
    script.chmod(0o755)
    return command


def check_data(folder: Path, settings: VerlSettings) -> None:
    """Raises DataError where a file is missing, there are too few rows for a step, or a prompt is too long."""
    import pyarrow.parquet as pq

    for name in ("train.parquet", "validation.parquet"):
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing: `xrouter dataset build` writes it where validation_share > 0")
        longest = 0
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(columns=["extra_info.prompt_tokens"]):
            rows: list[dict[str, Any]] = batch.to_pylist()
            longest = max([longest, *(row["extra_info"]["prompt_tokens"] for row in rows)])
        if longest > settings.max_prompt_tokens:
            raise DataError(
                f"{path}: a prompt has {longest} tokens, more than verl.max_prompt_tokens = {settings.max_prompt_tokens}"
            )
        rows_there = file.metadata.num_rows
        if name.startswith("train") and rows_there < settings.prompts:
            raise DataError(
                f"{path} has {rows_there} samples, fewer than a step takes (verl.prompts = {settings.prompts})"
            )

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

from ...errors import CheckpointError, ConfigurationError
from .compose import composed, write
from .data_check import check_answers, check_data
from .export import export_latest
from .overrides import CHECKPOINTS, LOOP_CLASS, LOOP_NAME, overrides
from .terms import read_terms, write_terms

TERMS, LOOPS, CONFIG, COMMAND = "terms.json", "agent_loops.yaml", "verl.yaml", "launch.sh"


def train(
    config: Path,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Path:
    """Has verl train in the folder `out`; its last checkpoint as Hugging Face weights. verl tells of its progress itself.

    resume: go on from the last checkpoint in `out`.
    Raises ConfigurationError for settings that we or verl refuse, DataError for data that does not fit them,
    CheckpointError where verl left no checkpoint or ended early.
    """
    done = subprocess.run(prepare(config, out, resume=resume), check=False)
    if done.returncode:
        raise CheckpointError(
            f"verl ended with exit code {done.returncode}: mend what it says above and go on with --resume"
        )
    return export_latest(out)


def prepare(config: Path, out: Path, *, resume: bool = False) -> list[str]:
    """Writes the run's files, checked by verl's own rules, and gives the command that trains. Raises as `train` does."""
    run = out.expanduser().resolve()
    if (run / CHECKPOINTS).exists() and not resume:
        raise ConfigurationError(
            f"{out} holds checkpoints of a run: go on with it (--resume) or name another folder", param="out"
        )
    write_terms(config, run / TERMS)
    training = read_terms(run / TERMS)
    check_data(training.data, training.trainer)
    check_answers(training)
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

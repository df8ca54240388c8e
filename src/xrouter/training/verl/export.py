"""verl's sharded checkpoints -> a folder of Hugging Face weights, by verl's own merger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ...errors import CheckpointError
from .overrides import CHECKPOINTS

LATEST = "latest_checkpointed_iteration.txt"
MODEL = "model"


def merge_command(actor: Path, target: Path) -> list[str]:
    """actor: RUN/checkpoints/global_step_N/actor."""
    merger = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    return [*merger, "--local_dir", str(actor), "--target_dir", str(target)]


def latest_step(run: Path) -> int:
    """Of the last whole checkpoint. Raises CheckpointError where there is none."""
    path = run / CHECKPOINTS / LATEST
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run} has no finished checkpoint of verl's ({path.name}): {error}") from error


def export(run: Path, step: int, target: Path) -> Path:
    """Merges the checkpoint of `step` into `target`. Raises CheckpointError where verl's merger fails."""
    actor = run / CHECKPOINTS / f"global_step_{step}" / "actor"
    if not actor.is_dir():
        raise CheckpointError(f"{run} has no checkpoint of step {step}: {actor} is missing")
    done = subprocess.run(merge_command(actor, target), check=False)
    if done.returncode:
        raise CheckpointError(f"verl could not merge {actor}: see its message above")
    return target


def export_latest(run: Path) -> Path:
    """The last checkpoint as Hugging Face weights in RUN/model. Raises as `export` does."""
    run = run.expanduser().resolve()
    return export(run, latest_step(run), run / MODEL)

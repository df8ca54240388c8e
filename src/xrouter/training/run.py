"""A training run on disk: resumable, and readable by `serve` and `evaluate` from its first checkpoint on.

RUN/
  config.json      the training config, the sets and the pool
  prepared.npz     encoder and profiles, with the untrained network
  state.pt         everything a resumed run needs (torch)
  metrics.jsonl    one line a step
  policy.npz       the policy as served
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigurationError, DataError
from ..policies.checkpoint import FILE_NAME, Provenance, load_network, save_network
from ..tasks.outcomes import Outcomes
from .config import TrainingConfig
from .trainer import Metrics, Trainer, prepare, untrained_policy


class Run:
    """Opens a new run folder, or an old one to resume. Raises ConfigurationError where the two do not fit."""

    def __init__(
        self, folder: Path, sets: Sequence[Outcomes], config: TrainingConfig, *, resume: bool = False
    ) -> None:
        self.folder = folder
        self.config = config
        self.sets = list(sets)
        description = {"config": config.as_dict(), "trained_on": trained_on(sets)}
        state_path = folder / "state.pt"
        if state_path.exists() and not resume:
            raise ConfigurationError(
                f"{folder} holds a run already: give --resume to go on with it, or another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if resume and (folder / "config.json").exists():
            _check_same(folder / "config.json", description)
        else:
            _write_json(folder / "config.json", description)
        prepared_path = folder / "prepared.npz"
        if not (resume and prepared_path.exists()):
            save_network(untrained_policy(self.sets, config), prepared_path, Provenance())
        # Read back even when just written: what trains is the rounded checkpoint, and so is what resumes.
        self.trainer = Trainer(prepare(self.sets, config, load_network(prepared_path)), config)
        if resume and state_path.exists():
            self.trainer.load_state(torch.load(state_path, weights_only=False))

    def train(
        self,
        on_step: Callable[[Metrics], None] = lambda metrics: None,
        *,
        save_every: int = 50,
        tensorboard: bool = False,
        until: int | None = None,
    ) -> Path:
        """Trains to the end (or to step `until`), saving every `save_every` steps; returns the checkpoint's path."""
        end = self.trainer.steps if until is None else min(until, self.trainer.steps)
        metrics_path = self.folder / "metrics.jsonl"
        _keep_steps(metrics_path, self.trainer.step)
        with ExitStack() as stack:
            log = stack.enter_context(metrics_path.open("a"))
            board = _tensorboard(self.folder, stack) if tensorboard else None

            def report(metrics: Metrics) -> None:
                log.write(json.dumps(metrics) + "\n")
                if board is not None:
                    for name, value in metrics.items():
                        if not isinstance(value, str) and name != "step":
                            board.add_scalar(name, value, int(metrics["step"]))
                on_step(metrics)

            while self.trainer.step < end:
                self.trainer.run(report, until=min(end, (self.trainer.step // save_every + 1) * save_every))
                log.flush()
                self.save()
        return self.folder / FILE_NAME

    def save(self) -> None:
        part = self.folder / "state.part"
        torch.save(self.trainer.state(), part)
        os.replace(part, self.folder / "state.pt")
        provenance = Provenance(tuple(trained_on(self.sets)), self.config.as_dict())
        save_network(self.trainer.calibrated_policy(), self.folder / FILE_NAME, provenance)


def trained_on(sets: Sequence[Outcomes]) -> list[Mapping[str, Any]]:
    """What a checkpoint says of its training data: names and counts, no content."""
    return [
        {
            "name": outcomes.name,
            "split": "+".join(sorted(set(outcomes.splits))),
            "queries": len(outcomes),
            "models": list(outcomes.model_names),
            "datasets": sorted(set(outcomes.datasets)),
        }
        for outcomes in sets
    ]


def _check_same(path: Path, description: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); start a new run") from error
    now = json.loads(json.dumps(description))
    if before["trained_on"] != now["trained_on"]:
        raise ConfigurationError(
            f"{path.parent} was trained on other outcomes; resume with the same --outcomes"
        )
    different = [key for key, value in now["config"].items() if before["config"].get(key) != value]
    if different:
        raise ConfigurationError(
            f"{path.parent} was started with {different[0]}={before['config'].get(different[0])!r}, "
            f"now {now['config'][different[0]]!r}; resume with the same settings"
        )


def _keep_steps(path: Path, step: int) -> None:
    """Keeps the first `step` lines, one a step: a run that died between two saves takes the later steps again."""
    if path.exists():
        lines = path.read_text().splitlines()[:step]
        path.write_text("".join(line + "\n" for line in lines))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _tensorboard(folder: Path, stack: ExitStack) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigurationError(
            "--tensorboard needs the tensorboard package: pip install 'xrouter[tensorboard]'"
        ) from error
    return stack.enter_context(SummaryWriter(str(folder / "tensorboard")))

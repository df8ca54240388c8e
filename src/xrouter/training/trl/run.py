"""A training run with TRL on disk: warm start, DAPO, the trained model.

RUN/
  config.json          the settings
  metrics.jsonl        one line an update: `warm_step` of the warm start, `step` of DAPO
  warm_start/          weights after the warm start (adapters alone with LoRA)
  checkpoints/         what a resumed run needs
  model/               the trained model in Hugging Face's layout, merged, for SGLang or vLLM
  learning_curve.png
"""

from __future__ import annotations

import asyncio
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from ...errors import ConfigurationError, DataError
from ...messages import Request
from ...settings_tables.router_llm import MIN_DECISION_TOKENS
from ...tasks.world import World
from ..dataset.rows import Sample, load_samples
from ..router.episode import RouterEpisode
from ..router.metrics import metrics
from ..router.open_world import check_world, open_world
from ..router.reward import EpisodeReward
from ..router.settings import RouterTraining, load_training
from ..trained_model import trained_model
from .demonstrations import demonstrations
from .groups import GroupGenerator
from .journal import Journal, draw_curve
from .policy_model import PolicyModel, load_policy
from .rollouts import play_rollouts
from .sampler import Sampler
from .settings import TRLSettings, read_trl
from .trainer import dapo_trainer, last_checkpoint
from .warm_start import warm_start

CONFIG, WARM, MODEL = "config.json", "warm_start", "model"
MAY_CHANGE = frozenset({"steps", "save_every", "validate_every", "validation_samples", "threads", "device"})
"""Keys of [trl] that a resumed run may have otherwise."""

Report = Callable[[dict[str, Any]], None]


def train(config: Path, out: Path, *, resume: bool = False, report: Report = lambda event: None) -> Path:
    """Trains as the TOML file says; the folder of the trained model.

    report: gets what is under way: "phase" with "done" and "total", and figures. Raises ConfigurationError for settings that do
    not fit, also those of a run to be resumed, and DataError for data that cannot be read.
    """
    settings = load_training(config, "trl", read_trl)
    with asyncio.Runner() as runner, warnings.catch_warnings():
        # Names that these libraries pass among themselves and will change; nobody who trains can do anything about it.
        warnings.filterwarnings(
            "ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\."
        )
        world = open_world(settings.world, out)
        try:
            return Run(settings, world, out, runner, resume=resume, report=report).train()
        finally:
            runner.run(world.aclose())


class Run:
    """Opens a new run folder, or an old one to resume. runner: plays the episodes, all in one event loop."""

    def __init__(
        self,
        settings: RouterTraining,
        world: World,
        folder: Path,
        runner: asyncio.Runner,
        *,
        resume: bool = False,
        report: Report = lambda event: None,
    ) -> None:
        self.settings, self.trl = settings, _trl(settings)
        self.folder, self._runner, self._report = folder, runner, report
        _open_folder(folder, settings, resume=resume)
        transformers.logging.set_verbosity_error()
        if self.trl.threads is not None:
            torch.set_num_threads(self.trl.threads)
        self.samples = _samples(settings.data / "train.parquet")
        held_out = settings.data / "validation.parquet"
        self.validation = load_samples(held_out, self.trl.validation_samples) if held_out.exists() else []
        check_world(world, [*self.samples, *self.validation])
        self._world = world
        self._router, self._reward = trained_model(settings.router), EpisodeReward(settings.reward)

    def train(self) -> Path:
        checkpoint = last_checkpoint(self.folder)
        warm = self.folder / WARM
        transformers.set_seed(self.trl.seed)
        step = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]) // self.trl.updates
        # TRL would take one step more before it sees that there is none left.
        done = checkpoint is not None and step >= self.trl.steps
        self._report({"phase": "loading the model"})
        policy = load_policy(self.trl, weights=checkpoint if done else warm if warm.is_dir() else None)
        self._check_window(policy)
        journal = Journal(self.folder, resume_at=step if warm.is_dir() else None)
        if not warm.is_dir():
            if self.trl.demonstrations.count:
                self._warm_start(policy, journal)
            _save_warm(policy, warm)
        if self.trl.steps and not done:
            self._dapo(policy, journal, checkpoint)
        self._report({"phase": "saving the model"})
        policy.save(self.folder / MODEL)
        draw_curve(self.folder)
        return self.folder / MODEL

    def _warm_start(self, policy: PolicyModel, journal: Journal) -> None:
        total = self.trl.demonstrations.count
        shown = self._runner.run(
            demonstrations(
                self.samples,
                self.episode,
                policy.template,
                self.settings.router,
                self.trl.demonstrations,
                window=self.window(policy),
                seed=self.trl.seed,
                progress=lambda done: self._report({"phase": "demonstrations", "done": done, "total": total}),
            )
        )
        played = {
            f"demonstrations/{name}": value for name, value in metrics([r.result for r in shown]).items()
        }
        journal.write(played)

        def on_update(figures: dict[str, float]) -> None:
            journal.write(figures)
            done, whole = figures["warm_step"], figures["warm_steps"]
            self._report({"phase": "warm start", "done": done, "total": whole, **figures})

        warm_start(
            policy,
            [one.transcript for one in shown],
            self.trl.demonstrations,
            seed=self.trl.seed,
            max_grad_norm=self.trl.max_grad_norm,
            report=on_update,
        )

    def _dapo(self, policy: PolicyModel, journal: Journal, checkpoint: Path | None) -> None:
        generated: dict[str, float] = {}
        generator = GroupGenerator(
            self.samples,
            self.episode,
            self._speaker(policy, self.trl.temperature),
            policy.template,
            self.trl,
            self._runner,
            window=self.window(policy),
            report=generated.update,
        )

        def on_update(step: int, figures: dict[str, float]) -> None:
            row = {"step": step, **generated, **self._world.figures(), **figures}
            every = self.trl.validate_every
            if every and (step % every == 0 or step == self.trl.steps):
                row |= self.validated(policy)
            journal.write(row)
            self._report({"phase": "DAPO", "done": step, "total": self.trl.steps, **row})

        trainer = dapo_trainer(
            policy,
            generator,
            len(self.samples),
            self.trl,
            self.folder,
            max_reply_tokens=self.settings.router.max_tokens,
            on_update=on_update,
        )
        if checkpoint is None and self.trl.validate_every:
            journal.write({"step": 0, **self.validated(policy)})
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def validated(self, policy: PolicyModel) -> dict[str, float]:
        """Figures of greedy episodes over the validation samples, each named `validation/...`."""
        if not self.validation:
            return {}
        random_state = torch.get_rng_state()
        rollouts = self._runner.run(
            play_rollouts(
                [self.episode(sample) for sample in self.validation],
                self._speaker(policy, 0.0),
                policy.template,
                window=self.window(policy),
            )
        )
        torch.set_rng_state(random_state)
        figures = metrics([rollout.result for rollout in rollouts])
        return {f"validation/{name}": value for name, value in figures.items()}

    def episode(self, sample: Sample) -> RouterEpisode:
        return RouterEpisode(sample, self._world, self._router, self.settings.router, self._reward)

    def window(self, policy: PolicyModel) -> int:
        return min(policy.window, self.settings.router.context_window)

    def _speaker(self, policy: PolicyModel, temperature: float) -> Sampler:
        return Sampler(
            policy.model,
            policy.template.stop_ids,
            temperature=temperature,
            batch=self.trl.generation_batch,
            autocast=policy.autocast,
        )

    def _check_window(self, policy: PolicyModel) -> None:
        """Raises ConfigurationError where no reply can be asked for: too few tokens for one, or none left by a long prompt."""
        longest = max(self.samples, key=lambda sample: sample.prompt_tokens)
        request = self._runner.run(self._first_request(longest))
        if request is None:
            raise ConfigurationError(
                f"router.max_tokens = {self.settings.router.max_tokens} is too little for a decision to be asked for: give at "
                f"least {MIN_DECISION_TOKENS}",
                param="router.max_tokens",
            )
        tokens, window = len(policy.template.prompt(request)), self.window(policy)
        if tokens + self.settings.router.max_tokens > window:
            raise ConfigurationError(
                f"sample {longest.index} has a prompt of {tokens} tokens, which with router.max_tokens = "
                f"{self.settings.router.max_tokens} is more than the window of {window}: build the data set with a lower "
                "max_prompt_tokens, or use a model with a longer window",
                param="router.max_tokens",
            )

    async def _first_request(self, sample: Sample) -> Request | None:
        episode = self.episode(sample)
        try:
            return await episode.start()
        finally:
            await episode.aclose()


def _trl(settings: RouterTraining) -> TRLSettings:
    assert isinstance(settings.trainer, TRLSettings)
    return settings.trainer


def _samples(path: Path) -> list[Sample]:
    samples = load_samples(path)
    if not samples:
        raise DataError(f"{path} has no samples to train on")
    random.Random(0).shuffle(samples)
    return samples


def _save_warm(policy: PolicyModel, folder: Path) -> None:
    """Under another name first, so that a folder of this name is whole."""
    part = folder.with_name(folder.name + ".part")
    policy.model.save_pretrained(part)
    part.rename(folder)


def _open_folder(folder: Path, settings: RouterTraining, *, resume: bool) -> None:
    described = json.loads(json.dumps(_described(settings), default=str))
    path = folder / CONFIG
    if path.exists() and not resume:
        raise ConfigurationError(
            f"{folder} holds a run already: give --resume to go on with it, or another --out"
        )
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for table, values in described.items():
            changed = [
                k for k, v in values.items() if v != before.get(table, {}).get(k) and k not in MAY_CHANGE
            ]
            if changed:
                raise ConfigurationError(
                    f"{folder} was begun with {table}.{changed[0]} = {before.get(table, {}).get(changed[0])!r}, now it is "
                    f"{values[changed[0]]!r}: put it back to resume, or give another --out",
                    param=f"{table}.{changed[0]}",
                )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _described(settings: RouterTraining) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "data": {"path": str(settings.data)},
        "world": asdict(settings.world),
        "reward": asdict(settings.reward),
        "router": asdict(settings.router),
        "trl": _trl(settings).as_dict(),
    }

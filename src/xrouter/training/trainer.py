"""The trainer: prepare, regress on outcomes, then DAPO over replayed episodes.

Axes: Q queries, P groups, G rollouts of a group, N recorded choices.

One screen tells the whole loop: `Trainer.run` draws episodes, plays them with the current network, and takes the
phase's gradient steps. Everything random comes from one generator whose state is saved with the weights, so a
resumed run on a CPU ends in the same bits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from ..policies.network import FORBIDDEN, NetworkPolicy, forward, initial_parameters
from ..policies.profiles import Profiles
from ..policies.states import Bools, Floats, Ints
from ..policies.text import TextEncoder
from ..policies.turn_rules import Payoff
from ..rewards.cost_aware import CostAwareReward
from ..rewards.linear import LinearReward
from ..rewards.reward import Reward
from ..tasks.outcomes import Outcomes, union
from ..tasks.replay import Replay
from .calibration import fit_calibration
from .config import Keep, Scale, TrainingConfig
from .dapo import clipped_token_mean_loss, group_relative_advantages, informative_groups
from .encoder import fit_encoder
from .episodes import Draw, Played, TrainingSet, draw, play
from .evolution import Weights, evolve
from .profiles import fit_profiles
from .warm_start import answer_loss, as_network, corrections, next_values, training_set, value_loss

Metrics = dict[str, float | int | str]
MINIBATCHES = 6
EVOLUTION_NOISE = 0.02
EVOLUTION_RATE = 0.3
SURROGATES: dict[str, Callable[[TrainingConfig], tuple[Scale, float, float]]] = {
    "dapo": lambda config: (config.scale, config.clip_low, config.clip_high),
    "grpo": lambda config: ("group", config.clip_low, config.clip_low),
    "reinforce": lambda config: (config.scale, 1.0, math.inf),
}
"""What each policy gradient divides advantages by, and how far below and above 1 it clips the probability ratio."""
VALIDATION_WEIGHTS = np.geomspace(3e-3, 30.0, 14)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is fitted before the network: encoder and profiles on the training part, and both parts to replay."""

    encoder: TextEncoder
    profiles: Profiles
    training: tuple[TrainingSet, ...]
    validation: tuple[Outcomes, ...]


def hold_out(outcomes: Outcomes, share: float, seed: int) -> tuple[Outcomes, Outcomes | None]:
    """Splits queries into training and validation at random; repeated prompts stay on one side."""
    prompts = sorted(set(outcomes.recording.prompts))
    chosen = np.random.default_rng(seed).permutation(len(prompts))[: int(share * len(prompts))]
    held = {prompts[i] for i in chosen}
    inside = np.array([prompt in held for prompt in outcomes.recording.prompts])
    if not inside.any():
        return outcomes, None
    return outcomes.rows(np.flatnonzero(~inside)), outcomes.rows(np.flatnonzero(inside))


def training_parts(
    sets: Sequence[Outcomes], config: TrainingConfig
) -> list[tuple[Outcomes, Outcomes | None]]:
    """Each set's training and validation part."""
    return [hold_out(outcomes, config.validation_share, config.seed) for outcomes in sets]


def untrained_policy(sets: Sequence[Outcomes], config: TrainingConfig) -> NetworkPolicy:
    """Encoder and profiles fitted on the training parts, with the network as it is drawn."""
    together = union([part for part, _ in training_parts(sets, config)])
    prompts = together.recording.prompts
    encoder = fit_encoder(
        prompts,
        dimensions=config.dimensions,
        landmarks=config.landmarks,
        vocabulary=config.vocabulary,
        seed=config.seed,
    )
    profiles = fit_profiles(together, encoder.encode(prompts), seed=config.seed)
    weights = initial_parameters(config.seed, config.hidden)
    return NetworkPolicy(encoder, profiles, weights, payoff_of(config), version="untrained")


def prepare(
    sets: Sequence[Outcomes], config: TrainingConfig, fitted: NetworkPolicy | None = None
) -> Prepared:
    """`fitted`: the untrained policy, if there is one already."""
    fitted = fitted or untrained_policy(sets, config)
    parts = training_parts(sets, config)
    return Prepared(
        fitted.encoder,
        fitted.profiles,
        tuple(
            training_set(part, fitted.encoder, fitted.profiles, max_turns=config.max_turns, seed=config.seed)
            for part, _ in parts
        ),
        tuple(held for _, held in parts if held is not None),
    )


def payoff_of(config: TrainingConfig) -> Payoff:
    """The configured reward as the policy reckons with it."""
    return Payoff(config.success_bonus, config.penalty_cap) if config.reward == "cost_aware" else Payoff()


class Trainer:
    """Trains one network policy. What is validated and served is the running average of the weights (Polyak and
    Juditsky, 1992), which is steadier than their last value.

    `state` and `load_state` carry everything a resumed run needs."""

    def __init__(self, prepared: Prepared, config: TrainingConfig) -> None:
        self.prepared = prepared
        self.config = config
        self.step = 0
        self.rng = np.random.default_rng(config.seed)
        self.parameters = {
            name: torch.tensor(value, requires_grad=True)
            for name, value in initial_parameters(config.seed, config.hidden).items()
        }
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), weight_decay=config.weight_decay)
        self.best: tuple[float, dict[str, torch.Tensor]] | None = None
        self.payoff = payoff_of(config)
        self.reward: Reward = (
            CostAwareReward(config.success_bonus, config.penalty_cap)
            if config.reward == "cost_aware"
            else LinearReward()
        )

    @property
    def steps(self) -> int:
        return self.config.warm_steps + self.config.dapo_steps

    def run(self, report: Callable[[Metrics], None], until: int | None = None) -> None:
        """Trains from the current step to `until` (the end by default), reporting each step's metrics."""
        while self.step < (self.steps if until is None else min(until, self.steps)):
            warm = self.step < self.config.warm_steps
            metrics = self._warm_step() if warm else self._reinforcement_step()
            self.step += 1
            if self.step % self.config.evaluate_every == 0 or self.step == self.steps:
                metrics |= self._validate()
            report({"step": self.step, "phase": "warm_start" if warm else self.config.algorithm, **metrics})

    def policy(self, version: str | None = None, *, keep: Keep | None = None) -> NetworkPolicy:
        """The policy as it is served, with the weights that `keep` names (by default the config's)."""
        best = self.best if (keep or self.config.keep) == "best" else None
        source = self.average if best is None else best[1]
        weights = {name: value.detach().numpy().copy() for name, value in source.items()}
        digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
        return NetworkPolicy(
            self.prepared.encoder,
            self.prepared.profiles,
            weights,
            self.payoff,
            version=version or digest[:12],
        )

    def calibrated_policy(self) -> NetworkPolicy:
        """The policy with its confidences mended on the training queries: what is written and served."""
        policy = self.policy()
        policy.calibration = fit_calibration(
            policy, self.prepared.training, self.config.max_turns, self.config.seed
        )
        return policy

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "rng": self.rng.bit_generator.state,
            "parameters": {name: value.detach().clone() for name, value in self.parameters.items()},
            "average": {name: value.clone() for name, value in self.average.items()},
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.rng.bit_generator.state = state["rng"]
        with torch.no_grad():
            for name in self.parameters:
                self.parameters[name].copy_(state["parameters"][name])
                self.average[name].copy_(state["average"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]

    def _warm_step(self) -> Metrics:
        data, config = self._some_set(), self.config
        self._set_rate(one_cycle(self.step / max(config.warm_steps, 1), config.warm_learning_rate))
        query_B = self.rng.integers(0, len(data), config.warm_batch)
        drawn = draw(data, query_B, config.sampling, self.rng)
        played = self._play(data, drawn, self._explore)
        choices = played.choices
        target_N = next_values(choices, played.reward_B[choices.episode_N])
        losses = []
        for rows in np.array_split(self.rng.permutation(len(choices.picked_N)), MINIBATCHES):
            correct, value = corrections(self.parameters, choices, rows)
            answers = answer_loss(correct, choices, rows)
            values = value_loss(value, choices, rows, target_N)
            self._descend(answers + 5.0 * values)
            losses.append((answers.item(), values.item()))
        answers_mean, values_mean = np.mean(losses, axis=0)
        return {**summary(played), "answer_loss": float(answers_mean), "value_loss": float(values_mean)}

    def _reinforcement_step(self) -> Metrics:
        config = self.config
        done = (self.step - config.warm_steps) / max(config.dapo_steps, 1)
        self._set_rate(config.learning_rate * max(0.05, 1.0 - done))
        data = self._some_set()
        return self._evolution_step(data) if config.algorithm == "evolution" else self._gradient_step(data)

    def _evolution_step(self, data: TrainingSet) -> Metrics:
        config = self.config
        query_B = self.rng.integers(0, len(data), config.groups)
        drawn = draw(data, query_B, config.sampling, self.rng)
        states = drawn.states

        def fitness(weights: Weights) -> float:
            fresh = replace(drawn, states=states.rows(np.arange(len(states))))
            network = partial(forward, {name: np.asarray(w, np.float32) for name, w in weights.items()})
            return float(
                play(fresh, data.max_turns, network, self.payoff, self.reward, greedy).reward_B.mean()
            )

        now = {name: value.detach().numpy() for name, value in self.parameters.items()}
        evolved = evolve(
            now, fitness, self.rng, pairs=config.group_size, noise=EVOLUTION_NOISE, rate=EVOLUTION_RATE
        )
        with torch.no_grad():
            for name, value in evolved.items():
                self.parameters[name].copy_(torch.from_numpy(value))
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter, 1.0 - config.averaging**MINIBATCHES)
        return {"reward": fitness(now)}

    def _gradient_step(self, data: TrainingSet) -> Metrics:
        config = self.config
        batches, kept = 0, 0
        totals: list[Metrics] = []
        while kept < config.groups and batches < config.max_generation_batches:
            query_P = self.rng.integers(0, len(data), config.groups)
            drawn = draw(data, query_P, config.sampling, self.rng, repeat=config.group_size)
            played = self._play(data, drawn, self._sample)
            rewards_PG = played.reward_B.reshape(config.groups, config.group_size)
            useful_P = (
                informative_groups(rewards_PG) if config.algorithm == "dapo" else np.ones(config.groups, bool)
            )
            batches, kept = batches + 1, kept + int(useful_P.sum())
            if useful_P.any():
                totals.append(self._policy_gradient(played, rewards_PG, useful_P))
        if not totals and self.step == config.warm_steps:
            raise DataError(
                f"{data.outcomes.name}: no group of rollouts had two different rewards, so there is nothing to learn "
                "from; give at least two models, a higher temperature, or dapo_steps = 0"
            )
        if not totals:
            totals = [{**summary(played), "policy_loss": 0.0, "answer_loss": 0.0, "clipped": 0.0}]
        mean = {key: float(np.mean([float(part[key]) for part in totals])) for key in totals[0]}
        return {**mean, "generation_batches": batches, "informative_groups": kept}

    def _play(self, data: TrainingSet, drawn: Draw, pick: Callable[[Floats, Bools], Ints]) -> Played:
        return play(drawn, data.max_turns, as_network(self.parameters), self.payoff, self.reward, pick)

    def _policy_gradient(self, played: Played, rewards_PG: Floats, useful_P: Bools) -> Metrics:
        config, choices = self.config, played.choices
        scale, clip_low, clip_high = SURROGATES[config.algorithm](config)
        advantage_B = group_relative_advantages(rewards_PG, scale).reshape(-1)
        useful_B = np.repeat(useful_P, config.group_size)
        old_N = self._picked(torch.from_numpy(choices.value_NA).float(), choices.picked_N)
        rows_N = self.rng.permutation(np.flatnonzero(useful_B[choices.episode_N]))
        out = []
        for rows in np.array_split(rows_N, MINIBATCHES):
            new, correct = self._log_probability(rows, played)
            loss, diagnostics = clipped_token_mean_loss(
                new[:, None],
                old_N[rows][:, None],
                torch.from_numpy(advantage_B[choices.episode_N[rows]]).float(),
                torch.ones(len(rows), 1, dtype=torch.bool),
                clip_low,
                clip_high,
            )
            answers = answer_loss(correct, choices, rows)
            self._descend(loss + config.answer_loss_weight * answers)
            out.append((loss.item(), answers.item(), diagnostics.clipped_low + diagnostics.clipped_high))
        loss_mean, answer_mean, clipped = np.mean(out, axis=0)
        return {
            **summary(played),
            "policy_loss": float(loss_mean),
            "answer_loss": float(answer_mean),
            "clipped": float(clipped),
        }

    def _log_probability(self, rows: Ints, played: Played) -> tuple[torch.Tensor, torch.Tensor]:
        """(log pi of the picked choices, answer logits) for these recorded choices."""
        correct, value = corrections(self.parameters, played.choices, rows)
        legal = torch.from_numpy(played.choices.legal_NA[rows])
        value = torch.where(legal, value, torch.tensor(FORBIDDEN))
        return self._picked(value, played.choices.picked_N[rows]), correct

    def _picked(self, value_NA: torch.Tensor, picked_N: Ints) -> torch.Tensor:
        """Log-probability of each picked choice under the softmax over legal values."""
        logp_NA = torch.log_softmax(value_NA / self.config.temperature, 1)
        return logp_NA.gather(1, torch.from_numpy(picked_N)[:, None])[:, 0]

    def _explore(self, value_BA: Floats, legal_BA: Bools) -> Ints:
        """Epsilon-greedy."""
        anything: Ints = np.where(legal_BA, self.rng.random(legal_BA.shape), -1.0).argmax(1)
        explore = self.rng.random(len(value_BA)) < self.config.exploration
        picked: Ints = np.where(explore, anything, value_BA.argmax(1))
        return picked

    def _sample(self, value_BA: Floats, legal_BA: Bools) -> Ints:
        """A sample of the softmax over legal values (Gumbel's trick)."""
        noisy = value_BA / self.config.temperature + self.rng.gumbel(size=value_BA.shape)
        picked: Ints = np.where(legal_BA, noisy, -np.inf).argmax(1)
        return picked

    def _some_set(self) -> TrainingSet:
        sets = self.prepared.training
        data = sets[int(self.rng.integers(len(sets)))]
        models, most = len(data.outcomes.models), self.config.sampling.most_models
        if models <= most:
            return data
        return data.columns(np.sort(self.rng.choice(models, most, replace=False)))

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _descend(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.gradient_clip)
        self.optimizer.step()
        with torch.no_grad():
            for name, value in self.parameters.items():
                self.average[name].lerp_(value, 1.0 - self.config.averaging)

    def _validate(self) -> Metrics:
        """Mean reward of the greedy policy on held-out training queries, over lambdas; keeps the best weights."""
        if not self.prepared.validation:
            return {}
        policy = self.policy(keep="last")
        rewards, scores = [], []
        for held in self.prepared.validation:
            text_QD = policy.encode(held.recording.prompts)
            replay = Replay(held.recording, self.config.max_turns)
            query_B = np.tile(np.arange(len(held)), len(VALIDATION_WEIGHTS))
            weight_B = np.repeat(VALIDATION_WEIGHTS, len(held))
            done = replay.run(policy, text_QD, query_B, weight_B)
            score_B = held.scores_of(query_B, done.answer_from_B)
            unit = policy.pool_profile(held.models).reference_cost
            rewards.append(float(self.reward.reward(score_B, done.cost_B / unit, weight_B).mean()))
            scores.append(float(score_B.mean()))
        reward = float(np.mean(rewards))
        if self.best is None or reward > self.best[0]:
            self.best = (reward, {name: value.clone() for name, value in self.average.items()})
        return {"validation_reward": reward, "validation_score": float(np.mean(scores))}


def greedy(value_BA: Floats, legal_BA: Bools) -> Ints:
    """The most valuable choice; illegal ones are FORBIDDEN already."""
    best: Ints = value_BA.argmax(1)
    return best


def one_cycle(done: float, peak: float) -> float:
    """Learning rate after this share of the phase: up in a tenth, then down along a cosine."""
    if done < 0.1:
        return peak * (0.05 + 0.95 * done / 0.1)
    return peak * (0.02 + 0.49 * (1.0 + math.cos(math.pi * (done - 0.1) / 0.9)))


def summary(played: Played) -> Metrics:
    """Means over the batch: reward, score, US dollars and calls an episode."""
    return {
        "reward": float(played.reward_B.mean()),
        "score": float(played.quality_B.mean()),
        "cost_usd": float(played.cost_B.mean()),
        "calls": float(played.calls_B.mean()),
    }

"""Behavioural cloning: the network learns to choose as a teacher did, in the situations that the teacher was in.

Axes: N choices, M models, A = M + 1 choices, Q queries. The loss of a choice is -log of the probability, under the
softmax over legal values, that it is one the teacher would make. Beside it: at a handing over, which response the
teacher chose; and whether answers are right, so that the stated confidence means something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ...errors import ConfigurationError, DataError
from ...policies.features import features
from ...policies.network import (
    FORBIDDEN,
    NetworkPolicy,
    forward,
    initial_parameters,
    pool_masks,
    starting_values,
    value_correction,
)
from ...policies.states import Floats, Ints
from ...tasks.outcomes import Outcomes
from ...tasks.replay import Replay
from ..calibration import fit_calibration
from ..config import TrainingConfig
from ..trainer import hold_out, one_cycle, untrained_policy
from ..warm_start import CHANCE, training_set
from .teaching import Teaching
from .trajectories import Trajectories, trajectories

Metrics = dict[str, float | int]


@dataclass(frozen=True)
class ImitationConfig:
    """network: sizes, seed, temperature and validation share of the network, as `xrouter train` has them.

    epochs at most; it ends earlier where held-out queries have not improved for `patience` of them. most_episodes: of the
    teacher's, drawn at random.
    """

    network: TrainingConfig
    epochs: int = 60
    patience: int = 10
    batch: int = 512
    learning_rate: float = 3e-3
    selection_weight: float = 0.5
    answer_loss_weight: float = 0.5
    max_turns: int = 3
    most_episodes: int = 20_000

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch", "max_turns", "most_episodes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}", param=name)
        if not self.learning_rate > 0:
            raise ConfigurationError(
                f"learning_rate must be above 0, got {self.learning_rate}", param="learning_rate"
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Distilled:
    """policy: calibrated, as it is saved. plain: encoder and profiles alone, what it was before it saw the teacher.

    agreement: share of held-out choices that are the teacher's, after the best epoch; NaN where none were held out.
    """

    policy: NetworkPolicy
    plain: NetworkPolicy
    epochs: int
    choices: int
    unreachable: int
    agreement: float


def distil(
    train: Outcomes,
    taught: Teaching,
    config: ImitationConfig,
    on_epoch: Callable[[Metrics], None] = lambda metrics: None,
) -> Distilled:
    """Encoder and profiles are fitted on all of `train`, the network on the teacher's episodes, whose queries are in it.

    Raises DataError where the episodes are too few to hold some out.
    """
    network = config.network
    plain = untrained_policy([train], network)
    part, held = hold_out(train, network.validation_share, network.seed)
    data = training_set(part, plain.encoder, plain.profiles, max_turns=config.max_turns, seed=network.seed)
    rng = np.random.default_rng(network.seed)
    mine = _some(taught.of_queries(frozenset(part.recording.prompts)), config.most_episodes, rng)
    if not len(mine):
        raise DataError("the teacher's queries are all held out: let it decide on more of the train split")
    learning = trajectories(_on(mine, part), data.prior, config.max_turns, rng)
    validation = None if held is None else _held_out(plain, held, taught, config, rng)
    learner = _Learner(plain, learning, _scores(learning, part), config)
    best, best_loss, best_epoch, agreement = learner.weights(), float("inf"), 0, float("nan")
    epoch = 0
    for epoch in range(1, config.epochs + 1):
        metrics: Metrics = {"epoch": epoch, "loss": learner.epoch((epoch - 1) / config.epochs)}
        if validation is not None:
            loss, agreeing = learner.judge(validation)
            metrics |= {"validation_loss": loss, "validation_agreement": agreeing}
            if loss < best_loss - 1e-4:
                best, best_loss, best_epoch, agreement = learner.weights(), loss, epoch, agreeing
        on_epoch(metrics)
        if validation is not None and epoch - best_epoch >= config.patience:
            break
    weights = learner.weights() if validation is None else best
    policy = _policy(plain, weights)
    policy.calibration = fit_calibration(policy, (data,), config.max_turns, network.seed)
    return Distilled(policy, plain, best_epoch or epoch, len(learning), learning.unreachable, agreement)


class _Learner:
    def __init__(
        self, plain: NetworkPolicy, learning: Trajectories, score_NM: Floats, config: ImitationConfig
    ) -> None:
        self.config = config
        self.learning = learning
        self.score_NM = score_NM
        self.payoff = plain.payoff
        self.rng = np.random.default_rng(config.network.seed + 1)
        start = initial_parameters(config.network.seed, config.network.hidden)
        self.parameters = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), weight_decay=config.network.weight_decay)

    def weights(self) -> dict[str, Any]:
        return {name: value.detach().numpy().copy() for name, value in self.parameters.items()}

    def epoch(self, done: float) -> float:
        """One pass over the teacher's choices; the mean loss of a choice."""
        for group in self.optimizer.param_groups:
            group["lr"] = one_cycle(done, self.config.learning_rate)
        total, count = 0.0, len(self.learning)
        for rows in np.array_split(self.rng.permutation(count), -(-count // self.config.batch)):
            value, correct = self._values(self.learning, rows)
            choice = self._choice_loss(value, self.learning, rows).mean()
            loss = (
                choice
                + self.config.selection_weight * self._selection_loss(correct, self.learning, rows)
                + self.config.answer_loss_weight * self._answer_loss(correct, rows)
            )
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.network.gradient_clip)
            self.optimizer.step()
            total += choice.item() * len(rows)
        return total / count

    def judge(self, held: Trajectories) -> tuple[float, float]:
        """(mean loss of a choice, share of greedy choices that are the teacher's)."""
        losses, right = [], []
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(held)), -(-len(held) // 4096)):
                value, correct = self._values(held, rows)
                selection = self._selection_loss(correct, held, rows).item()
                losses.append(
                    self._choice_loss(value, held, rows).numpy() + self.config.selection_weight * selection
                )
                best = value.numpy().argmax(1)
                right.append(held.right_NA[rows][np.arange(len(rows)), best])
        return float(np.concatenate(losses).mean()), float(np.concatenate(right).mean())

    def _values(self, of: Trajectories, rows: Ints) -> tuple[torch.Tensor, torch.Tensor]:
        """(value_NA over temperature, FORBIDDEN where illegal, correct_NM). No gradient flows through starting values."""
        view, pending = of.view.rows(rows), of.pending_NM[rows]
        inputs = (features(view, pending), *pool_masks(view.states, pending))
        correct, add, go = forward(self.parameters, *(torch.from_numpy(value) for value in inputs))
        _, offset_NA = starting_values(view, pending, correct.detach().numpy(), self.payoff)
        listed = torch.from_numpy(pending.any(1, keepdims=True).astype(np.float32))
        value = torch.from_numpy(offset_NA).float() + value_correction(add, go, listed, torch.cat)
        legal = torch.from_numpy(of.legal_NA[rows])
        return torch.where(legal, value / self.config.network.temperature, torch.tensor(FORBIDDEN)), correct

    def _choice_loss(self, value_NA: torch.Tensor, of: Trajectories, rows: Ints) -> torch.Tensor:
        right = torch.from_numpy(of.right_NA[rows])
        logp = torch.log_softmax(value_NA, 1)
        return -torch.logsumexp(torch.where(right, logp, torch.tensor(FORBIDDEN)), 1)

    def _selection_loss(self, correct_NM: torch.Tensor, of: Trajectories, rows: Ints) -> torch.Tensor:
        """-log of the probability of the response that was handed over, by the softmax over the responses' logits."""
        selected = of.selected_N[rows]
        at = np.flatnonzero(selected >= 0)
        if not len(at):
            return torch.zeros(())
        view = of.view.rows(rows[at])
        logit = torch.from_numpy(view.chance_logit_BM).float() + correct_NM[torch.from_numpy(at)]
        responded = torch.from_numpy(view.states.responded_BM)
        logp = torch.log_softmax(torch.where(responded, logit, torch.tensor(FORBIDDEN)), 1)
        return -logp.gather(1, torch.from_numpy(selected[at])[:, None]).sum() / len(rows)

    def _answer_loss(self, correct_NM: torch.Tensor, rows: Ints) -> torch.Tensor:
        """Log loss of P(right) for every model with a score."""
        score = torch.from_numpy(self.score_NM[rows]).float()
        known = ~torch.isnan(score)
        chance = torch.from_numpy(self.learning.view.rows(rows).fixed_BMF[:, :, CHANCE])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            chance + correct_NM, torch.nan_to_num(score), reduction="none"
        )
        return (loss * known).sum() / known.sum().clamp(min=1)


def _held_out(
    plain: NetworkPolicy, held: Outcomes, taught: Teaching, config: ImitationConfig, rng: np.random.Generator
) -> Trajectories | None:
    """The teacher's choices on held-out queries, seen as a served policy sees them; None where it decided none."""
    of_held = taught.of_queries(frozenset(held.recording.prompts))
    of_held = _some(of_held, config.most_episodes, rng)
    if not len(of_held):
        return None
    start = Replay(held.recording, config.max_turns).start(np.arange(len(held)), np.zeros(len(held)))
    prior = plain.prior(plain.encode(held.recording.prompts), start)
    return trajectories(_on(of_held, held), prior, config.max_turns, rng)


def _on(taught: Teaching, part: Outcomes) -> Teaching:
    """The same episodes with rows of `part`, which holds their queries."""
    position = {query: row for row, query in enumerate(part.query_ids)}
    query_E = np.array([position[taught.outcomes.query_ids[q]] for q in taught.query_E], np.int64)
    return Teaching(part, query_E, taught.weight_E, taught.turn_EM, taught.answer_from_E, taught.left_out)


def _some(taught: Teaching, most: int, rng: np.random.Generator) -> Teaching:
    if len(taught) <= most:
        return taught
    rows = np.sort(rng.choice(len(taught), most, replace=False))
    return Teaching(
        taught.outcomes,
        taught.query_E[rows],
        taught.weight_E[rows],
        taught.turn_EM[rows],
        taught.answer_from_E[rows],
        taught.left_out,
    )


def _scores(learning: Trajectories, part: Outcomes) -> Floats:
    """score_NM of the models that take part, NaN for the others."""
    states = learning.view.states
    in_pool = states.allowed_BM | states.responded_BM
    return np.where(in_pool, part.score_QM[learning.query_N], np.nan)


def _policy(plain: NetworkPolicy, weights: dict[str, Any]) -> NetworkPolicy:
    digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
    return NetworkPolicy(plain.encoder, plain.profiles, weights, plain.payoff, version=digest[:12])

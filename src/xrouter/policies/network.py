"""The network policy: reads every model as a row of features, then adds models to the turn or stops.

Axes: B episodes, M models, F features, H hidden units, A = M + 1 choices (add model m, or go).

A turn is a short sequence of choices: "add model m" puts m on the turn's list, "go" calls the list, or hands
over the best response when the list is empty. Sets of any size are reached without enumerating them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from .calibration import Lines, as_stated, calibrate, calibrate_one
from .features import FEATURES, Prior, View, features, look
from .memory import ByPool
from .odds import sigmoid
from .profiles import PoolProfile, Profiles
from .single import SingleNetwork, decide_one
from .states import Bools, Choices, Floats, Ints, States
from .text import TextEncoder
from .turn_rules import HOPELESS_PENALTY, MAX_CALLS_PER_TURN, TIE, Payoff

HIDDEN = 64
FORBIDDEN = -1e9

Parameters = Mapping[str, Any]
"""Arrays of either library: the same forward pass trains in torch and serves in NumPy."""

Network = Callable[
    [NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], tuple[Floats, Floats, Floats]
]
"""x_BMF, in_pool_BM1, responded_BM1 -> (correct_BM, add_BM, go_B2), in NumPy."""


def initial_parameters(seed: int, hidden: int = HIDDEN) -> dict[str, NDArray[np.float32]]:
    """He initialisation; output layers start at zero, so an untrained policy follows the profiles alone."""
    rng = np.random.default_rng(seed)

    def weight(rows: int, columns: int) -> NDArray[np.float32]:
        return np.asarray(rng.standard_normal((rows, columns)) * np.sqrt(2.0 / rows), np.float32)

    width = len(FEATURES)
    return {
        "w1": weight(width, hidden),
        "b1": np.zeros(hidden, np.float32),
        "w2": weight(hidden, hidden),
        "w_all": weight(hidden, hidden),
        "w_responded": weight(hidden, hidden),
        "b2": np.zeros(hidden, np.float32),
        "w3": np.zeros((hidden, 2), np.float32),
        "b3": np.zeros(2, np.float32),
        "w4": weight(hidden, hidden),
        "b4": np.zeros(hidden, np.float32),
        "w5": np.zeros((hidden, 2), np.float32),
        "b5": np.zeros(2, np.float32),
    }


def forward(p: Parameters, x_BMF: Any, in_pool_BM1: Any, responded_BM1: Any) -> tuple[Any, Any, Any]:
    """Returns (correct_BM, add_BM, go_B2) as corrections to the hand-made starting points of `deliberate`.

    correct: logit that the model's answer is right; add: value of adding the model to the turn;
    go_B2: value of calling the list, and of handing over. Written in what NumPy and torch have in common.
    """
    in_pool_B1M, responded_B1M = in_pool_BM1.swapaxes(1, 2), responded_BM1.swapaxes(1, 2)
    count_B1 = in_pool_B1M.sum(2) + 1e-6
    responses_B1 = responded_B1M.sum(2) + 1e-6
    h = _relu(x_BMF @ p["w1"] + p["b1"])
    pool_BH = (in_pool_B1M @ h)[:, 0] / count_B1
    responded_BH = (responded_B1M @ h)[:, 0] / responses_B1
    context_BH = pool_BH @ p["w_all"] + responded_BH @ p["w_responded"] + p["b2"]
    h = _relu(h @ p["w2"] + context_BH[:, None, :])
    out = h @ p["w3"] + p["b3"]
    g = _relu(((in_pool_B1M @ h)[:, 0] / count_B1) @ p["w4"] + p["b4"])
    return out[:, :, 0], out[:, :, 1], g @ p["w5"] + p["b5"]


def _relu(h: Any) -> Any:
    return np.maximum(h, 0.0) if isinstance(h, np.ndarray) else h.clip(min=0)


@dataclass(frozen=True, eq=False)
class Deliberation:
    """What one choice of B episodes is made from.

    x_BMF, in_pool_BM1, responded_BM1: the network's input. listed_B1: 1 where the turn's list is not empty.
    offset_BA: each choice's value before the network's correction; value_BA: after it, FORBIDDEN where illegal.
    """

    x_BMF: NDArray[np.float32]
    in_pool_BM1: NDArray[np.float32]
    responded_BM1: NDArray[np.float32]
    listed_B1: NDArray[np.float32]
    chance_BM: Floats
    offset_BA: Floats
    legal_BA: Bools
    value_BA: Floats

    def repeat(self, times: int) -> Deliberation:
        """Every row this many times over."""
        return Deliberation(**{f.name: np.repeat(getattr(self, f.name), times, axis=0) for f in fields(self)})


def deliberate(network: Network, payoff: Payoff, view: View, pending_BM: Bools) -> Deliberation:
    """Values every choice. Serving and training both decide by this."""
    x_BMF = features(view, pending_BM)
    in_pool_BM1, responded_BM1 = pool_masks(view.states, pending_BM)
    correct_BM, add_BM, go_B2 = network(x_BMF, in_pool_BM1, responded_BM1)
    listed_B1: NDArray[np.float32] = np.asarray(pending_BM.any(1, keepdims=True), np.float32)
    chance_BM, offset_BA = starting_values(view, pending_BM, correct_BM, payoff)
    legal_BA = legal_choices(view, pending_BM)
    value_BA = offset_BA + value_correction(add_BM, go_B2, listed_B1, np.concatenate)
    return Deliberation(
        x_BMF=x_BMF,
        in_pool_BM1=in_pool_BM1,
        responded_BM1=responded_BM1,
        listed_B1=listed_B1,
        chance_BM=chance_BM,
        offset_BA=offset_BA,
        legal_BA=legal_BA,
        value_BA=np.where(legal_BA, value_BA, FORBIDDEN),
    )


def legal_choices(view: View, pending_BM: Bools) -> Bools:
    """Which models may be added and whether the turn may end; always at least one where a call can be paid."""
    prior, states, penalty_BM = view.prior, view.states, view.penalty_BM
    listed = pending_BM.sum(1)
    responded = states.responded_BM.any(1)
    first = ~responded & (listed == 0)
    callable_ = states.allowed_BM & ~pending_BM
    if np.isfinite(states.money_left_B).any():
        callable_ &= _affordable(prior, states.money_left_B, pending_BM, callable_, first)
    cheapest = np.where(callable_, penalty_BM, np.inf).min(1)
    worthwhile = penalty_BM <= HOPELESS_PENALTY + np.where(first, cheapest, 0.0)[:, None]
    last_turn = states.turns_left_B <= 1
    may_add = np.where(last_turn, first, listed < MAX_CALLS_PER_TURN)
    legal_BA = np.empty((len(states), prior.cost_BM.shape[1] + 1), bool)
    legal_BA[:, :-1] = callable_ & worthwhile & may_add[:, None]
    legal_BA[:, -1] = (listed > 0) | responded
    return legal_BA


def _affordable(
    prior: Prior, money_left_B: Floats, pending_BM: Bools, callable_BM: Bools, first_B: Bools
) -> Bools:
    """Calls that a cap leaves room for, with a margin for longer answers; where it has room for no first call, the
    cheapest that fits without it."""
    bound_BM = prior.cap_margin_M * prior.cost_BM
    fits_BM: Bools = bound_BM <= (money_left_B - (bound_BM * pending_BM).sum(1))[:, None]
    cost_BM = np.where(callable_BM, prior.cost_BM, np.inf)
    cheapest_BM = (cost_BM <= cost_BM.min(1, keepdims=True)) & (cost_BM <= money_left_B[:, None])
    tight_B = first_B & ~(callable_BM & fits_BM).any(1)
    affordable_BM: Bools = fits_BM | (tight_B[:, None] & cheapest_BM)
    return affordable_BM


def starting_values(
    view: View, pending_BM: Bools, correct_BM: Floats, payoff: Payoff
) -> tuple[Floats, Floats]:
    """(chance_BM, offset_BA): chances after the network's correction `correct_BM` (logits), and the value each
    choice starts from.

    Starting points: a response is worth its chance; a call what the best answer is expected to be worth once it is
    in; adding m to the list, the better of m and what is at hand or listed, at the added cost; calling the list or
    handing over, the best of what is at hand or listed.
    """
    prior, states = view.prior, view.states
    logit_BM = np.minimum(np.maximum(view.chance_logit_BM + correct_BM, -12.0), 12.0)
    chance_BM = sigmoid(logit_BM)
    weight = states.cost_weight_B / prior.reference_cost
    spent_B = weight * states.cost_BM.sum(1) + (view.penalty_BM * pending_BM).sum(1)
    worth_BM = np.where(states.responded_BM, chance_BM, np.maximum(chance_BM, view.inference.after_BM))
    at_hand = np.where(states.responded_BM | pending_BM, worth_BM, 0.0).max(1)
    offset_BA = np.empty((len(states), chance_BM.shape[1] + 1))
    offset_BA[:, :-1] = payoff(np.maximum(worth_BM, at_hand[:, None]), spent_B[:, None] + view.penalty_BM)
    offset_BA[:, -1] = payoff(at_hand, spent_B)
    return chance_BM, offset_BA


def value_correction(add_BM: Any, go_B2: Any, listed_B1: Any, concatenate: Any) -> Any:
    """The network's corrections as one value per choice; "go" has one for calling and one for handing over."""
    go_B1 = go_B2[:, :1] * listed_B1 + go_B2[:, 1:] * (1 - listed_B1)
    return concatenate([add_BM, go_B1], 1)


def best_response_M(chance_BM: Floats, states: States) -> NDArray[np.int64]:
    """The response with the highest chance, -1 where there is none."""
    ranked = np.where(states.responded_BM, chance_BM, -1.0)
    return np.where(states.responded_BM.any(1), ranked.argmax(1), -1)


def first_of_best(value_BA: Floats) -> Ints:
    """The first choice whose value equals the highest, as far as `TIE` tells."""
    best: Ints = (value_BA >= value_BA.max(1, keepdims=True) - TIE).argmax(1)
    return best


class NetworkPolicy:
    """An `ArrayPolicy`. Everything it needs is in its checkpoint; NumPy alone runs it."""

    def __init__(
        self,
        encoder: TextEncoder,
        profiles: Profiles,
        parameters: Mapping[str, NDArray[np.float32]],
        payoff: Payoff,
        *,
        calibration: Lines | None = None,
        name: str = "network",
        version: str = "0",
    ) -> None:
        """calibration: of the stated confidence (`policies.calibration`); by default it is stated as it is."""
        self.calibration = as_stated() if calibration is None else calibration
        self.encoder = encoder
        self.profiles = profiles
        self.parameters = parameters
        self.payoff = payoff
        self.name = name
        self.version = version
        self._single: SingleNetwork | None = None
        self._pool_profile = ByPool(profiles.of_pool)

    def encode(self, queries: Sequence[str]) -> Floats:
        return self.encoder.encode(queries).astype(np.float64)

    def prior(self, text_BD: Floats, states: States) -> Prior:
        """What is expected of each model. Of a query unlike anything in training: what it does on average there."""
        return self._prior(text_BD, self.familiar_B(text_BD), states)

    def familiar_B(self, text_BD: Floats) -> Bools:
        """Whether each query resembles training prompts."""
        return self.encoder.familiar_B(text_BD)

    def _prior(self, text_BD: Floats, familiar_B: Bools, states: States) -> Prior:
        if not familiar_B.all():
            text_BD = np.where(familiar_B[:, None], text_BD, self.profiles.typical_D)
        profile = self.pool_profile(states.models)
        tokens_BM = profile.tokens_BM(text_BD)
        cost_BM = profile.cost_BM(tokens_BM, states.prompt_tokens_B)
        if states.discount_BM.any():
            cost_BM = np.maximum(cost_BM - states.discount_BM, 0.0)
        return Prior(
            chance_BM=profile.chance_BM(text_BD),
            tokens_BM=tokens_BM,
            cost_BM=cost_BM,
            known_BM=np.broadcast_to(profile.known_M, tokens_BM.shape),
            same_B2=profile.same_B2(text_BD),
            loadings_ME=profile.loadings_ME,
            reference_cost=profile.reference_cost,
            cap_margin_M=profile.cap_margin_M,
        )

    def decide(self, text_BD: Floats, states: States) -> Choices:
        if len(states) == 1:
            return self._decide_one(text_BD, states)
        return self.decide_batch(text_BD, states)

    def _decide_one(self, text_BD: Floats, states: States) -> Choices:
        """`decide_batch` of a batch of one."""
        familiar_B = self.familiar_B(text_BD)
        text_D: Floats = text_BD[0] if familiar_B[0] else self.profiles.typical_D.astype(np.float64)
        if self._single is None or self._single.parameters is not self.parameters:
            self._single = SingleNetwork(self.parameters)
        choice = decide_one(self._single, self.payoff, self.pool_profile(states.models), text_D, states)
        call_BM = np.zeros_like(states.allowed_BM)
        call_BM[0, choice.called] = True
        confidence = calibrate_one(self.calibration, choice.chance, int(states.responded_BM.sum()))
        return Choices(call_BM, np.array([choice.selected]), np.array([confidence]), familiar_B)

    def decide_batch(self, text_BD: Floats, states: States) -> Choices:
        """`decide`, by array operations over all episodes."""
        familiar_B = self.familiar_B(text_BD)
        whole = look(self._prior(text_BD, familiar_B, states), states)
        network = partial(forward, self.parameters)
        pending_BM = np.zeros_like(states.allowed_BM)
        select_B = np.full(len(states), -1, np.int64)
        confidence_B = np.full(len(states), np.nan)
        active = np.arange(len(states))
        while len(active):
            view = whole if len(active) == len(states) else whole.rows(active)
            some = view.states
            now = deliberate(network, self.payoff, view, pending_BM[active])
            go = some.allowed_BM.shape[1]
            pick = np.where(now.legal_BA.any(1), first_of_best(now.value_BA), go)
            stop = pick == go
            pending_BM[active[~stop], pick[~stop]] = True
            ended = active[stop]
            if len(ended):
                best = best_response_M(now.chance_BM, some)
                empty = ~pending_BM[ended].any(1)
                select_B[ended[empty]] = best[stop][empty]
                at_hand = some.responded_BM | pending_BM[active]
                confidence_B[ended] = np.where(at_hand, now.chance_BM, 0.0).max(1)[stop]
            active = active[~stop]
        confidence_B = calibrate(self.calibration, confidence_B, states.responded_BM.sum(1))
        return Choices(pending_BM, select_B, confidence_B, familiar_B)

    def pool_profile(self, models: tuple[Model, ...]) -> PoolProfile:
        """Profiles of a pool."""
        return self._pool_profile(models)


def pool_masks(states: States, pending_BM: Bools) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Models that take part in the episode, and those that answered; [B, M, 1] as floats."""
    in_pool = states.allowed_BM | states.responded_BM | states.failed_BM | pending_BM
    return in_pool[:, :, None].astype(np.float32), states.responded_BM[:, :, None].astype(np.float32)

"""Side by side in one run, on one split and pool: our policies, the baselines and other people's routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import process_time

from ..policies.states import ArrayPolicy
from ..tasks.outcomes import Outcomes
from .contestants import FITTED, baseline_policy
from .decision_time import DecisionTime, decision_times, long_queries, pool_of
from .evaluate import DEFAULT_WEIGHTS, Progress, evaluate
from .peers.catalog import TITLES, FittedPeer, check_peers, fit_peer
from .peers.embedding import Memory
from .result import Evaluation, Result

COST_WEIGHT = 0.1
"""Lambda at which decisions are timed."""


@dataclass(frozen=True, eq=False)
class Bench:
    """fit_s: seconds of processor time by policy, NaN where it was fitted elsewhere. knobs: how a peer was given lambda.

    times: first decisions on the split's own queries over its pool; long_times: of ours and the baselines on
    queries of 500 tokens over 24 models.
    """

    evaluation: Evaluation
    ours: tuple[str, ...]
    peers: tuple[str, ...]
    fit_s: Mapping[str, float]
    knobs: Mapping[str, str]
    times: Mapping[str, DecisionTime]
    long_times: Mapping[str, DecisionTime]

    @property
    def shown(self) -> tuple[Result, ...]:
        """Ours, peers, baselines with a frontier of their own, unions and the oracle; no single models."""
        wanted = (*self.ours, *self.peers, *FITTED, "knn + cascade", "all singles", "oracle")
        found = [self.evaluation.named(name) for name in wanted]
        return tuple(result for result in found if result is not None)


def bench(
    outcomes: Outcomes,
    *,
    policies: Mapping[str, ArrayPolicy],
    peers: Sequence[str],
    memory: Memory,
    folder: Path,
    seed: int = 0,
    bootstrap: int = 1000,
    cost_weights: Sequence[float] = DEFAULT_WEIGHTS,
    timed: int = 200,
    progress: Progress = lambda name, done, total: None,
) -> Bench:
    """Fits peers and baselines on the train split of `outcomes`, judges all on its test split, then times them.

    memory: the embedding that peers share. folder: for the peers' own files; of LLMRouter's routers, whose fits take
    minutes, those found there from an equal train split, pool and seed are used again. timed: queries to time
    decisions on.
    Raises ConfigurationError for a peer that is unknown or not installed, before anything is fitted.
    """
    check_peers(peers)
    train, test = outcomes.split("train"), outcomes.split("test")
    files = folder / digest(train, seed)
    fitted: dict[str, FittedPeer] = {
        TITLES[name]: fit_peer(name, train, memory, files, seed, progress) for name in peers
    }
    others = {title: peer.policy for title, peer in fitted.items()}
    evaluation = evaluate(
        outcomes,
        policies={**policies, **others},
        train=train,
        cost_weights=cost_weights,
        seed=seed,
        bootstrap=bootstrap,
        progress=progress,
    )
    fit_s = {name: float("nan") for name in policies}
    fit_s |= {title: peer.fit_s for title, peer in fitted.items()}
    baselines: dict[str, ArrayPolicy] = {}
    for name in FITTED:
        progress(f"{name}: fit time", 0, len(FITTED))
        start = process_time()
        baselines[name] = baseline_policy(name, train, seed)
        fit_s[name] = process_time() - start

    progress("decision times", 0, 1)
    prompts = test.recording.prompts
    ours = {**policies, **baselines}
    with memory.forgetting():
        times = decision_times({**ours, **others}, prompts[:timed], test.models, COST_WEIGHT)
    long_times = decision_times(ours, long_queries(prompts, timed), pool_of(test.models), COST_WEIGHT)
    return Bench(
        evaluation=evaluation,
        ours=tuple(policies),
        peers=tuple(fitted),
        fit_s=fit_s,
        knobs={title: peer.knob for title, peer in fitted.items()},
        times=times,
        long_times=long_times,
    )


def digest(train: Outcomes, seed: int) -> str:
    """Tells one training problem from another."""
    found = sha256(repr((train.query_ids, train.model_names, seed)).encode())
    for array in (train.score_QM, train.recording.cost_QM, train.recording.present_QM):
        found.update(array.tobytes())
    return found.hexdigest()[:16]

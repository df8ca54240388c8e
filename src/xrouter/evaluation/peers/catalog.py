"""The peers by name: other people's routers, fitted on the train split with their own code or published recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

from ...errors import ConfigurationError
from ...policies.states import ArrayPolicy
from ...tasks.outcomes import Outcomes
from .avengers import fit_avengers
from .chances import best_by_chance
from .embedding import Embed
from .llmrouter import KINDS, fit_llmrouter, llmrouter_version
from .routellm import fit_routellm, routellm_version

TITLES = {
    "knn": "LLMRouter kNN",
    "svm": "LLMRouter SVM",
    "mlp": "LLMRouter MLP",
    "mf": "LLMRouter MF",
    "graph": "LLMRouter graph",
    "routellm": "RouteLLM mf",
    "avengers": "Avengers clustering",
}
PEERS = tuple(TITLES)

Progress = Callable[[str, int, int], None]
"""Called with what is being fitted, fits done and fits in all."""


@dataclass(frozen=True, eq=False)
class FittedPeer:
    """fit_s: seconds of processor time of the fit, embeddings not counted.

    knob: how lambda, which the router does not know, was given to it.
    """

    policy: ArrayPolicy
    fit_s: float
    knob: str


def check_peers(names: Sequence[str]) -> None:
    """Raises ConfigurationError for a name that is no peer, and where a peer's package is not installed."""
    for name in names:
        if name not in PEERS:
            raise ConfigurationError(f"--peers: {name!r} is not one of {', '.join(PEERS)}")
    if any(name in KINDS for name in names):
        llmrouter_version()
    if "routellm" in names:
        routellm_version()


def fit_peer(
    name: str,
    train: Outcomes,
    embed: Embed,
    folder: Path,
    seed: int = 0,
    progress: Progress = lambda name, done, total: None,
) -> FittedPeer:
    """folder: for the files of the peer's own code. Raises as `check_peers` does."""
    check_peers((name,))
    title = TITLES[name]
    embed(train.recording.prompts)
    progress(title, 0, 1)
    if name in KINDS:
        chances, took = fit_llmrouter(name, train, embed, folder / name, seed)
        policy = best_by_chance(title, llmrouter_version(), train, chances)
        return FittedPeer(policy, took, "argmax(chance to be best - lambda x mean cost)")
    start = process_time()
    if name == "routellm":
        pair = fit_routellm(train, embed, folder / name, seed)
        return FittedPeer(pair, process_time() - start, f"threshold; {pair.strong} or {pair.weak}")
    return FittedPeer(fit_avengers(train, embed, seed), process_time() - start, "alpha = 1 / (1 + lambda)")

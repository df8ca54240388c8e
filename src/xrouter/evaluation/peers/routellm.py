"""RouteLLM's matrix factorisation router (PyPI: routellm) between two models, fitted on recorded outcomes.

Everything is its own code: its training loop with the settings of its example, and its router for the decision. Its
embeddings come from OpenAI's API; here its client is replaced by the embedding all peers share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...errors import ConfigurationError, DataError
from ...policies.baselines import UNFITTED, ask_best, columns_of, list_price_BM
from ...policies.states import Choices, Floats, States
from ...tasks.outcomes import Outcomes
from ..contestants import TrainFigures
from .embedding import INSTALL, Embed
from .quiet import silence, variables

STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
"""The rows of its table of models that stand for the pair: it knows a fixed list of names only."""
CHEAPER = 0.1
"""The weak model costs at most this share of the strong one."""
LAMBDAS = (1e-3, 1e4)
"""From the first everything goes to the strong model, from the second nothing; log-linear between."""


@dataclass(frozen=True, eq=False)
class StrongOrWeak:
    """The strong model where its chance to win is over a threshold, the weak one elsewhere.

    Lambda sets the share of the training queries that go to the strong model, and so the threshold, as its own
    calibration does. quantiles: win rates on train, rising.
    """

    strong: str
    weak: str
    router: Any
    quantiles: Floats
    version: str
    name: str = "RouteLLM mf"

    def encode(self, queries: Sequence[str]) -> Floats:
        return np.array([[self.router.calculate_strong_win_rate(query)] for query in queries])

    def decide(self, text_BD: Floats, states: States) -> Choices:
        low, high = np.log(LAMBDAS)
        log_weight_B = np.log(np.maximum(states.cost_weight_B, LAMBDAS[0]))
        share_B = np.clip((high - log_weight_B) / (high - low), 0.0, 1.0)
        threshold_B = np.quantile(self.quantiles, 1.0 - share_B)
        threshold_B[share_B == 0.0] = np.inf
        threshold_B[share_B == 1.0] = -np.inf
        is_strong_B = text_BD[:, 0] >= threshold_B
        column_M = columns_of((self.strong, self.weak), states.models)
        wanted_BM = column_M == np.where(is_strong_B, 0, 1)[:, None]
        return ask_best(np.where(wanted_BM, 1.0, UNFITTED - list_price_BM(states)), states)


def routellm_version() -> str:
    """Raises ConfigurationError where the package is not installed."""
    with _importing():
        import_module("routellm.routers.routers")
    return version("routellm")


def pair(train: Outcomes) -> tuple[int, int]:
    """best, and of the models that cost at most a tenth of it the one with the highest train score.

    Raises DataError where there is none so cheap.
    """
    figures = TrainFigures.of(train)
    cheap = (figures.cost_M <= CHEAPER * figures.cost_M[figures.best]) & (figures.coverage_M >= 0.9)
    if not cheap.any():
        raise DataError(
            f"{train.name}: no model costs at most {CHEAPER:g} of {train.model_names[figures.best]}'s mean "
            "cost, so there is no pair for routellm; leave it out of --peers"
        )
    return figures.best, int(np.where(cheap, figures.score_M, -np.inf).argmax())


def fit_routellm(train: Outcomes, embed: Embed, folder: Path, seed: int = 0) -> StrongOrWeak:
    """Trained on the queries where the two models' scores differ, 5% of them for its own validation.

    Raises ConfigurationError where the package is not installed, DataError where there is no pair or it never differs.
    """
    strong, weak = pair(train)
    found = routellm_version()
    training = import_module("routellm.routers.matrix_factorization.train_matrix_factorization")
    model: Any = import_module("routellm.routers.matrix_factorization.model")
    routers = import_module("routellm.routers.routers")
    import torch

    torch.manual_seed(seed)
    vectors = np.array(embed(train.recording.prompts))
    difference = np.nan_to_num(train.score_QM[:, strong] - train.score_QM[:, weak])
    battles = [
        {"model_a": STRONG, "model_b": WEAK, "idx": int(q), "winner": "model_a" if won > 0 else "model_b"}
        for q, won in enumerate(difference)
        if won
    ]
    if len(battles) < 2:
        raise DataError(f"{train.name}: the two models of routellm's pair never differ on the train split")
    np.random.default_rng(seed).shuffle(battles)
    held_out = max(1, len(battles) // 20)

    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "embeddings.npy", vectors)
    width = vectors.shape[1]
    with silence():
        net = training.MFModel_Train(
            dim=128,
            num_models=len(model.MODEL_IDS),
            num_prompts=len(vectors),
            text_dim=width,
            npy_path=folder / "embeddings.npy",
        )
        training.train_loops(
            net,
            training.PairwiseDataset(battles[held_out:]).get_dataloaders(batch_size=64, shuffle=True),
            training.PairwiseDataset(battles[:held_out]).get_dataloaders(1024, shuffle=False),
            lr=3e-4,
            weight_decay=1e-5,
            alpha=0.1,
            num_epochs=100,
            device="cpu",
        )
        # The served model is the trained one without the prompts, its layers wrapped one deeper.
        served = model.MFModel(
            dim=128, num_models=len(model.MODEL_IDS), text_dim=width, num_classes=1, use_proj=True
        )
        weights = net.state_dict()
        served.load_state_dict(
            {
                "P.weight": weights["P.weight"],
                "text_proj.0.weight": weights["text_proj.weight"],
                "classifier.0.weight": weights["classifier.weight"],
            }
        )
        served.save_pretrained(folder / "fitted")
        router = routers.MatrixFactorizationRouter(
            str(folder / "fitted"), strong_model=STRONG, weak_model=WEAK, text_dim=width
        )
    model.OPENAI_CLIENT = _local_client(embed)
    fitted = StrongOrWeak(train.model_names[strong], train.model_names[weak], router, np.zeros(0), found)
    win_rate = np.sort(fitted.encode(train.recording.prompts)[:, 0])
    return StrongOrWeak(fitted.strong, fitted.weak, router, win_rate, found)


def _local_client(embed: Embed) -> SimpleNamespace:
    """The one call that RouteLLM makes of OpenAI's client."""

    def create(*, model: str, **request: Sequence[str]) -> SimpleNamespace:
        vectors = embed(request["input"])
        return SimpleNamespace(data=[SimpleNamespace(embedding=vector.tolist()) for vector in vectors])

    return SimpleNamespace(embeddings=SimpleNamespace(create=create))


@contextmanager
def _importing() -> Iterator[None]:
    """The package makes an OpenAI client when imported, which wants a key to be set; none is used."""
    try:
        with silence(), variables(OPENAI_API_KEY="not used"):
            yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"routellm needs {error.name}: {INSTALL}") from error

"""LLMRouter's routers (PyPI: llmrouter-lib) fitted on recorded outcomes: kNN, SVM, MLP, matrix factorisation, graph.

Its own classes read the data from files, its own trainers fit and its own models predict. What it does around a
prediction is left out: the embedding (Longformer from a model hub; here the one all peers share), reading the fitted
model from disk at each decision, and calling the model chosen. Where its code takes the argmax, the values
themselves are taken, so that lambda can be put to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from ...errors import ConfigurationError
from ...policies.states import Floats
from ...tasks.outcomes import Outcomes
from .chances import Chances, best_first, softmax
from .embedding import INSTALL, Embed, Vectors
from .quiet import silence, variables


@dataclass(frozen=True)
class Kind:
    """One router of the package. hparam: its published settings; what is not there is as its code has it."""

    module: str
    router: str
    trainer: str
    suffix: str
    hparam: Mapping[str, Any]


KINDS: Mapping[str, Kind] = {
    "knn": Kind("knnrouter", "KNNRouter", "KNNRouterTrainer", "pkl", {}),
    "svm": Kind(
        "svmrouter",
        "SVMRouter",
        "SVMRouterTrainer",
        "pkl",
        {"kernel": "rbf", "C": 1.0, "gamma": "scale", "probability": True},
    ),
    "mlp": Kind(
        "mlprouter",
        "MLPRouter",
        "MLPTrainer",
        "pkl",
        {"hidden_layer_sizes": [128, 64], "lr": 0.001, "epochs": 100, "batch_size": 32, "alpha": 0.0001},
    ),
    "mf": Kind(
        "mfrouter",
        "MFRouter",
        "MFRouterTrainer",
        "pkl",
        {"latent_dim": 128, "lr": 0.001, "epochs": 5, "noise_alpha": 0.0},
    ),
    "graph": Kind("graphrouter", "GraphRouter", "GraphTrainer", "pt", {}),
}


def llmrouter_version() -> str:
    """Raises ConfigurationError where the package is not installed."""
    with _importing():
        import_module("llmrouter.models.knnrouter.router")
    return version("llmrouter-lib")


def fit_llmrouter(
    name: str, train: Outcomes, embed: Embed, folder: Path, seed: int = 0
) -> tuple[Chances, float]:
    """The fitted router, and the seconds of processor time that its own code took.

    folder: for the files that its code reads and writes; a fit found there is used again. Raises ConfigurationError
    where the package is not installed.
    """
    kind = KINDS[name]
    with _importing():
        import torch

        router_module: Any = import_module(f"llmrouter.models.{kind.module}.router")
        trainer_module = import_module(f"llmrouter.models.{kind.module}.trainer")
    torch.manual_seed(seed)
    np.random.seed(seed)  # its code draws from the global generators
    config = _write_files(kind, train, embed, folder)
    took, fitted = folder / "seconds.json", folder / f"fitted.{kind.suffix}"
    with silence():
        start = process_time()
        router = getattr(router_module, kind.router)(str(config))
        if not took.is_file():
            getattr(trainer_module, kind.trainer)(router, device="cpu").train()
            took.write_text(json.dumps(process_time() - start))
        names, predict = _READERS[name](router, router_module, fitted)
    column = [train.model_names.index(model) for model in names]

    def chances(queries: Sequence[str]) -> Floats:
        with silence():
            found = predict(embed(queries))
        out = np.zeros((len(queries), len(train.model_names)))
        out[:, column] = found
        return out

    return chances, float(json.loads(took.read_text()))


Predict = Callable[[Vectors], Floats]
"""Embeddings -> the chance of each model that the router knows."""


def _estimator(router: Any, module: Any, fitted: Path) -> tuple[list[str], Predict]:
    model = module.load_model(str(fitted))
    return list(model.classes_), model.predict_proba


def _perceptron(router: Any, module: Any, fitted: Path) -> tuple[list[str], Predict]:
    import torch

    router.load_model_path = str(fitted)
    model, _ = router._load_mlp_model()

    def predict(vectors: Vectors) -> Floats:
        with torch.no_grad():
            return softmax(model(torch.from_numpy(vectors)).double().numpy())

    return [router.idx_to_model[i] for i in range(router.num_classes)], predict


def _factorisation(router: Any, module: Any, fitted: Path) -> tuple[list[str], Predict]:
    """It is trained on pairs: sigmoid(a - b) is the chance that a wins, so softmax is the chance to win them all
    (Bradley and Terry 1952).
    """
    import torch

    router.load_model_path = str(fitted)
    model = router._load_mf_model()

    def predict(vectors: Vectors) -> Floats:
        with torch.no_grad():
            rows = [model.score_all(model.project_text(torch.from_numpy(vector))) for vector in vectors]
            return softmax(torch.stack(rows).double().numpy())

    return list(router.model_to_idx), predict


def _graph(router: Any, module: Any, fitted: Path) -> tuple[list[str], Predict]:
    """Its `route_batch` and `route_single` build the graph of all training queries and the new ones; what they show
    its network is watched for the predicted edges.
    """
    import torch

    predictor = router.gnn_predictor
    predictor.model.load_state_dict(torch.load(fitted, map_location="cpu"))
    edges: list[Any] = []
    predictor.model.register_forward_hook(lambda net, given, predicted: edges.append(predicted))

    def predict(vectors: Vectors) -> Floats:
        waiting = iter(torch.from_numpy(np.array(vectors)))
        module.get_longformer_embedding = lambda text: next(waiting)
        module.call_api = lambda *_, **__: {}
        rows = [{"query": ""} for _ in vectors]
        edges.clear()
        if len(rows) == 1:
            router.route_single(rows[0])
        else:
            router.route_batch(rows)
        chance = edges[-1].reshape(len(rows), -1).double().numpy()
        return np.asarray(chance / chance.sum(1, keepdims=True))

    return list(router.model_names), predict


_READERS: Mapping[str, Callable[[Any, Any, Path], tuple[list[str], Predict]]] = {
    "knn": _estimator,
    "svm": _estimator,
    "mlp": _perceptron,
    "mf": _factorisation,
    "graph": _graph,
}


def _write_files(kind: Kind, train: Outcomes, embed: Embed, folder: Path) -> Path:
    """The package's input: embeddings, one row a (query, model), a configuration. Returns the path of the last."""
    import torch
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    vectors = torch.from_numpy(np.array(embed(train.recording.prompts)))
    torch.save(vectors, folder / "embeddings.pt")
    order = best_first(train).tolist()
    with (folder / "routing.jsonl").open("w", encoding="utf-8") as file:
        for q, query_id in enumerate(train.query_ids):
            for m in order:
                if train.recording.present_QM[q, m]:
                    row = {
                        "query": query_id,
                        "embedding_id": q,
                        "model_name": train.model_names[m],
                        "performance": float(train.score_QM[q, m]),
                    }
                    file.write(json.dumps(row) + "\n")
    here = folder.resolve()
    config = {
        "data_path": {
            "query_embedding_data": str(here / "embeddings.pt"),
            "routing_data_train": str(here / "routing.jsonl"),
        },
        "model_path": {
            "ini_model_path": str(here / "none"),
            "save_model_path": str(here / f"fitted.{kind.suffix}"),
            "load_model_path": str(here / "loaded already"),
        },
        "metric": {"weights": {"performance": 1}},
        "hparam": {**kind.hparam, **({"text_dim": vectors.shape[1]} if kind.module == "mfrouter" else {})},
        "api_endpoint": "none",
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextmanager
def _importing() -> Iterator[None]:
    """The package imports LiteLLM, which fetches a price list unless told to take its own."""
    try:
        with silence(), variables(LITELLM_LOCAL_MODEL_COST_MAP="True"):
            yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"LLMRouter's routers need {error.name}: {INSTALL}") from error

"""LLMRouter's routers (PyPI: llmrouter-lib) fitted on recorded outcomes: kNN, SVM, MLP, matrix factorisation, graph.

Everything is its own code: the router classes read their data from files, its trainers fit, and its `route_single` or
`route_batch` decide. Three functions of it that reach for the network or the disk are replaced: the embedding
(Longformer from a model hub) by the one all peers share, the call of the chosen model by nothing, and the loading of
the fitted model at each decision by the same, kept in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from ...errors import ConfigurationError
from ...policies.states import Ints
from ...tasks.outcomes import Outcomes
from .choice import Choose, best_first, utility_QM
from .embedding import INSTALL, Embed
from .quiet import silence, variables


@dataclass(frozen=True)
class Kind:
    """One router of the package. hparam: its published defaults; None takes those written in its code.

    lambdas: it is fitted once for each; fewer where a fit takes minutes.
    """

    module: str
    router: str
    trainer: str
    suffix: str
    hparam: Mapping[str, Any]
    lambdas: tuple[float, ...]


_MANY = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_FEW = (0.0, 0.1, 10.0)
KINDS: Mapping[str, Kind] = {
    "knn": Kind("knnrouter", "KNNRouter", "KNNRouterTrainer", "pkl", {}, _MANY),
    "svm": Kind(
        "svmrouter",
        "SVMRouter",
        "SVMRouterTrainer",
        "pkl",
        {"kernel": "rbf", "C": 1.0, "gamma": "scale"},
        _FEW,
    ),
    "mlp": Kind(
        "mlprouter",
        "MLPRouter",
        "MLPTrainer",
        "pkl",
        {"hidden_layer_sizes": [128, 64], "lr": 0.001, "epochs": 100, "batch_size": 32, "alpha": 0.0001},
        _FEW,
    ),
    "mf": Kind(
        "mfrouter",
        "MFRouter",
        "MFRouterTrainer",
        "pkl",
        {"latent_dim": 128, "lr": 0.001, "epochs": 5, "noise_alpha": 0.0},
        _FEW,
    ),
    "graph": Kind("graphrouter", "GraphRouter", "GraphTrainer", "pt", {}, _FEW),
}


def llmrouter_version() -> str:
    """Raises ConfigurationError where the package is not installed."""
    with _importing():
        import_module("llmrouter.models.knnrouter.router")
    return version("llmrouter-lib")


def fit_llmrouter(
    name: str, train: Outcomes, embed: Embed, cost_weight: float, folder: Path, seed: int = 0
) -> tuple[Choose, float]:
    """One fit on the utility at one lambda, and the seconds of processor time that its own code took.

    folder: for the files that its code reads and writes; a fit found there is used again. Raises ConfigurationError
    where the package is not installed.
    """
    kind = KINDS[name]
    with _importing():
        import torch

        router_module = import_module(f"llmrouter.models.{kind.module}.router")
        trainer_module = import_module(f"llmrouter.models.{kind.module}.trainer")
    torch.manual_seed(seed)
    np.random.seed(seed)  # its code draws from the global generators
    config = _write_files(kind, train, embed, cost_weight, folder)
    took = folder / "seconds.json"
    with silence():
        start = process_time()
        router = getattr(router_module, kind.router)(str(config))
        if not took.is_file():
            getattr(trainer_module, kind.trainer)(router, device="cpu").train()
            took.write_text(json.dumps(process_time() - start))

    position = {model: i for i, model in enumerate(train.model_names)}
    original = getattr(router_module, "load_model", None)
    load = None if original is None else lru_cache(maxsize=1)(original)

    def choose(queries: Sequence[str]) -> Ints:
        with _replaced(router_module, _torch_embed(embed), load), silence():
            rows = [{"query": query} for query in queries]
            if name == "graph" and len(rows) > 1:
                routed = router.route_batch(rows)
            else:
                routed = [router.route_single(row) for row in rows]
        return np.array([position[row["model_name"]] for row in routed], np.int64)

    return choose, float(json.loads(took.read_text()))


def _write_files(kind: Kind, train: Outcomes, embed: Embed, cost_weight: float, folder: Path) -> Path:
    """The package's input: embeddings, one row a (query, model), a configuration. Returns the path of the last."""
    import torch
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    vectors = torch.from_numpy(np.array(embed(train.recording.prompts)))
    torch.save(vectors, folder / "embeddings.pt")
    utility = utility_QM(train, cost_weight)
    order = best_first(train).tolist()
    with (folder / "routing.jsonl").open("w", encoding="utf-8") as file:
        for q, query_id in enumerate(train.query_ids):
            for m in order:
                if train.recording.present_QM[q, m]:
                    row = {
                        "query": query_id,
                        "embedding_id": q,
                        "model_name": train.model_names[m],
                        "performance": float(utility[q, m]),
                    }
                    file.write(json.dumps(row) + "\n")
    fitted = str(folder.resolve() / f"fitted.{kind.suffix}")
    config = {
        "data_path": {
            "query_embedding_data": str(folder.resolve() / "embeddings.pt"),
            "routing_data_train": str(folder.resolve() / "routing.jsonl"),
        },
        "model_path": {
            "ini_model_path": str(folder.resolve() / "none"),
            "save_model_path": fitted,
            "load_model_path": fitted,
        },
        "metric": {"weights": {"performance": 1}},
        "hparam": {**kind.hparam, **({"text_dim": vectors.shape[1]} if kind.module == "mfrouter" else {})},
        "api_endpoint": "none",
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _torch_embed(embed: Embed) -> Callable[[str], Any]:
    import torch

    return lambda text: torch.from_numpy(np.array(embed([text])[0]))


@contextmanager
def _replaced(
    module: Any, embedding: Callable[[str], Any], load: Callable[..., Any] | None
) -> Iterator[None]:
    """The names are put back: every fit of one kind shares the module."""
    new: dict[str, Any] = {"get_longformer_embedding": embedding, "call_api": lambda *_, **__: {}}
    if load is not None:
        new["load_model"] = load
    old = {name: getattr(module, name) for name in new if hasattr(module, name)}
    for name in old:
        setattr(module, name, new[name])
    try:
        yield
    finally:
        for name, value in old.items():
            setattr(module, name, value)


@contextmanager
def _importing() -> Iterator[None]:
    """The package imports LiteLLM, which fetches a price list unless told to take its own."""
    try:
        with silence(), variables(LITELLM_LOCAL_MODEL_COST_MAP="True"):
            yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"LLMRouter's routers need {error.name}: {INSTALL}") from error

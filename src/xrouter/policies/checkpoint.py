"""Policies on disk: one .npz file of arrays and a JSON header, read without torch and without unpickling.

A run folder holds it as policy.npz. `load_policy` also takes the name of a baseline.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from ..catalog.model import Model
from ..errors import CheckpointError
from ..settings import Settings
from .arrays import ServedPolicy
from .baselines import baseline, baseline_names
from .calibration import SITUATIONS
from .features import FEATURES
from .inference import EASE_DIMENSIONS
from .network import NetworkPolicy, initial_parameters
from .policy import Policy
from .profiles import DESCRIPTORS, UNKNOWN_SPREAD, Profiles
from .text import SHAPE, TextEncoder
from .turn_rules import Payoff

FORMAT = 2
FILE_NAME = "policy.npz"
PACKAGED = "default.npz"
TOOL_CALLING = "tool-calling"
DOTTED_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Provenance:
    """Where a policy comes from. `trained_on`: one entry a set, {"name", "split", "queries", "models"}."""

    trained_on: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def save_network(policy: NetworkPolicy, path: Path, provenance: Provenance) -> None:
    """Writes the checkpoint whole or not at all."""
    header = {
        "format": FORMAT,
        "kind": "network",
        "features": list(FEATURES),
        "name": policy.name,
        "version": policy.version,
        "payoff": {"bonus": policy.payoff.bonus, "cap": policy.payoff.cap},
        "model_names": list(policy.profiles.names),
        "typical_prompt_tokens": policy.profiles.typical_prompt_tokens,
        "sharpness": policy.encoder.sharpness,
        "familiar": policy.encoder.familiar,
        "trained_on": list(provenance.trained_on),
        "config": dict(provenance.config),
    }
    half = np.float16
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "buckets": policy.encoder.buckets_V.astype(np.int32),
        "idf": policy.encoder.idf_V,
        "projection": policy.encoder.projection_VD.astype(half),
        "landmarks": policy.encoder.landmarks_LD,
        "shape": policy.encoder.shape_2S,
        "skill": policy.profiles.skill_ND,
        "tokens": policy.profiles.tokens_ND,
        "tokens_scale": policy.profiles.tokens_scale_N,
        "tokens_spread": policy.profiles.tokens_spread_N,
        "prompt": policy.profiles.prompt_N2,
        "typical": policy.profiles.typical_D,
        "descriptor_weights": policy.profiles.descriptor_weights,
        "same": policy.profiles.same_2D,
        "calibration": policy.calibration,
        "loadings": policy.profiles.loadings_NE,
        **{f"network.{name}": value for name, value in policy.parameters.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)


def load_network(source: str | Path | None = None) -> NetworkPolicy:
    """A network policy from a run folder or a file; None is the one that ships with the package.

    Raises CheckpointError saying what does not fit: no such file, not a checkpoint, another format or features.
    """
    arrays, header = _read(source)
    source = "the packaged policy" if source is None else source
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{source}: checkpoint format {header.get('format')!r}, this version reads {FORMAT}; train it again"
        )
    if header.get("features") != list(FEATURES):
        raise CheckpointError(
            f"{source}: the checkpoint reads other features than this version; train it again"
        )
    if "tokens_spread" not in arrays:  # written before lengths had a spread
        arrays["tokens_spread"] = np.full(len(arrays.get("tokens_scale", ())), UNKNOWN_SPREAD, np.float32)
    try:
        _check_shapes(source, arrays, len(header["model_names"]))
        return NetworkPolicy(
            encoder=TextEncoder(
                buckets_V=arrays["buckets"].astype(np.int64),
                idf_V=arrays["idf"],
                projection_VD=arrays["projection"].astype(np.float32),
                landmarks_LD=arrays["landmarks"],
                sharpness=header["sharpness"],
                shape_2S=arrays["shape"],
                familiar=header["familiar"],
            ),
            profiles=Profiles(
                names=tuple(header["model_names"]),
                skill_ND=arrays["skill"],
                tokens_ND=arrays["tokens"],
                tokens_scale_N=arrays["tokens_scale"],
                tokens_spread_N=arrays["tokens_spread"],
                prompt_N2=arrays["prompt"],
                typical_D=arrays["typical"],
                typical_prompt_tokens=header["typical_prompt_tokens"],
                descriptor_weights=arrays["descriptor_weights"],
                same_2D=arrays["same"],
                loadings_NE=arrays["loadings"],
            ),
            parameters={k.removeprefix("network."): v for k, v in arrays.items() if k.startswith("network.")},
            payoff=Payoff(header["payoff"]["bonus"], header["payoff"]["cap"]),
            calibration=arrays["calibration"],
            name=header["name"],
            version=header["version"],
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: the checkpoint lacks {error.args[0]!r}; train it again") from None
    except (ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"{source}: the checkpoint does not fit ({error}); train it again") from error


def _check_shapes(source: str | Path, arrays: Mapping[str, Any], models: int) -> None:
    """Raises CheckpointError naming an array of the wrong shape, KeyError for one that is missing."""
    V, D = arrays["projection"].shape
    landmarks, hidden = len(arrays["landmarks"]), arrays["network.w1"].shape[-1]
    width = 1 + len(SHAPE) + D + landmarks
    expected: dict[str, tuple[int, ...]] = {
        "buckets": (V,),
        "idf": (V,),
        "landmarks": (landmarks, D),
        "shape": (2, len(SHAPE)),
        "skill": (models, width),
        "tokens": (models, width),
        "tokens_scale": (models,),
        "tokens_spread": (models,),
        "prompt": (models, 2),
        "typical": (width,),
        "descriptor_weights": (len(DESCRIPTORS),),
        "same": (2, width),
        "calibration": (len(SITUATIONS), 2),
        "loadings": (models, EASE_DIMENSIONS),
        **{f"network.{name}": value.shape for name, value in initial_parameters(0, hidden).items()},
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise CheckpointError(
                f"{source}: array {name!r} has shape {arrays[name].shape}, not {shape}; train it again"
            )


def read_provenance(source: str | Path | None = None) -> Provenance:
    """Raises CheckpointError as `load_network` does."""
    _, header = _read(source)
    return Provenance(tuple(header.get("trained_on", ())), header.get("config", {}))


def load_policy(
    source: str | Path | None, models: Sequence[Model], settings: Settings | None = None
) -> Policy:
    """A policy ready to serve this pool.

    source: a run folder, a checkpoint file, a baseline's or a model's name, "tool-calling" for the language model of
    `settings.router_llm`, the dotted path of a user's own policy ("package.module:Name", called without arguments), or
    None for the packaged one. Raises CheckpointError, and ConfigurationError where the settings name no such model.
    """
    if isinstance(source, str):
        if source == TOOL_CALLING:
            from .router_model import tool_calling_policy

            return tool_calling_policy(settings or Settings(), models, os.environ)
        if source in baseline_names() or source in [model.name for model in models]:
            return ServedPolicy(baseline(source))
        if DOTTED_PATH.fullmatch(source):
            return _own_policy(source)
    return ServedPolicy(load_network(source))


def _own_policy(path: str) -> Policy:
    module, _, name = path.partition(":")
    try:
        policy = getattr(import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"policy {path!r}: {error}") from error
    if not isinstance(policy, Policy):
        raise CheckpointError(f"policy {path!r} lacks name, version or act(observation)")
    return policy


def _read(source: str | Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if source is None:
        with resources.as_file(resources.files(__package__) / PACKAGED) as path:
            return _arrays(path)
    path = Path(source)
    return _arrays(path / FILE_NAME if path.is_dir() else path)


def _arrays(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(
            f"no policy at {path}: give a run folder of `xrouter train`, a checkpoint file, or one of "
            f"{', '.join((*baseline_names(), TOOL_CALLING))}"
        )
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            raise CheckpointError(
                f"{path} is not a policy checkpoint: it holds one array, not an .npz archive"
            )
        with file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
    except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: a damaged archive may claim to be encrypted or compressed in an unknown way.
        raise CheckpointError(f"{path} is not a policy checkpoint ({type(error).__name__})") from error
    if not isinstance(header, dict) or header.get("kind") != "network":
        raise CheckpointError(f"{path} is not a network policy's checkpoint")
    return arrays, header

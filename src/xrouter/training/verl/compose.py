"""verl's configuration of a run, composed by verl's own Hydra tree and checked by verl's own rules."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ...errors import ConfigurationError


def composed(overrides: list[str]) -> Any:
    """verl's `ppo_trainer` configuration with these overrides, validated as verl does before it trains.

    Raises ConfigurationError with what Hydra or verl found wrong.
    """
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    GlobalHydra.instance().clear()
    try:
        with (
            initialize_config_module("verl.trainer.config", version_base=None),
            contextlib.redirect_stdout(sys.stderr),
        ):
            config = compose("ppo_trainer", overrides=overrides)
            OmegaConf.to_container(config, resolve=True)
            validate_config(
                config=config,
                use_reference_policy=need_reference_policy(config),
                use_critic=need_critic(config),
            )
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ConfigurationError(f"verl refuses this configuration: {why}", param="verl") from error
    return config


def write(config: Any, path: Path) -> None:
    """As YAML, interpolations kept, that `python -m verl.trainer.main_ppo` reads again."""
    OmegaConf.save(config, path)

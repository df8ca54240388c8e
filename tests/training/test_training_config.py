from __future__ import annotations

import json
from typing import Any

import pytest

from xrouter.errors import ConfigurationError
from xrouter.training.config import TrainingConfig
from xrouter.training.episodes import Sampling


def test_a_config_survives_json() -> None:
    config = TrainingConfig(seed=3, groups=5, sampling=Sampling(price_jitter=0.1))
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_what_is_not_said_is_the_default() -> None:
    assert TrainingConfig.from_dict({}) == TrainingConfig()
    assert TrainingConfig.from_dict({"sampling": {}}).sampling == Sampling()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"warmsteps": 3}, "'warmsteps'"),
        ({"sampling": {"jitter": 0.1}}, "'jitter'"),
        ({"sampling": 0.5}, "sampling"),
        ({"hidden": "large"}, "hidden"),
        ({"hidden": 1.5}, "hidden"),
        ({"hidden": True}, "hidden"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"reward": 1}, "reward"),
        ({"reward": "shaped"}, "'shaped'"),
        ({"scale": "std"}, "'std'"),
        ({"groups": 0}, "groups"),
        ({"max_turns": 0}, "max_turns"),
        ({"group_size": 1}, "group_size"),
        ({"warm_steps": -1}, "warm_steps"),
        ({"warm_steps": 0, "dapo_steps": 0}, "dapo_steps"),
        ({"validation_share": 1.0}, "validation_share"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        TrainingConfig.from_dict(values)


def test_a_whole_number_will_do_for_a_share() -> None:
    assert TrainingConfig.from_dict({"validation_share": 0}).validation_share == 0

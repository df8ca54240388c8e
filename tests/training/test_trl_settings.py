"""The table [trl], dynamic sampling and the overlong penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pytest

from xrouter.errors import ConfigurationError
from xrouter.toml_reader import Reader
from xrouter.training.trl.dynamic_sampling import fill, vary
from xrouter.training.trl.overlong import overlong_penalty
from xrouter.training.trl.settings import (
    DemonstrationSettings,
    LoraSettings,
    TRLSettings,
    read_trl,
)


def read(**table: object) -> TRLSettings:
    return read_trl(Reader("router.toml", {"trl": {"model": "m", **table}}), "trl")


def test_defaults_are_dapos() -> None:
    settings = read()
    assert (settings.clip_low, settings.clip_high) == (0.2, 0.28)
    assert settings.scale_rewards == "none"
    assert settings.max_generation_batches == 10
    assert settings.lora is None
    assert settings.demonstrations.informed_share == 0.0
    assert read(demonstrations={"teacher": "informed", "informed": 0.3}).demonstrations.informed_share == 0.3
    assert read(lora={"rank": 4, "targets": ["q_proj"]}).lora == LoraSettings(4, targets=("q_proj",))


@pytest.mark.parametrize("kind", [TRLSettings, DemonstrationSettings, LoraSettings])
def test_every_setting_can_be_given(kind: type) -> None:
    """A key for each field, and the message for an unknown one lists them."""
    names = {field.name for field in fields(kind)}
    table: dict[str, object] = {"nonsense": 1}
    if kind is DemonstrationSettings:
        table = {"demonstrations": table}
    if kind is LoraSettings:
        table = {"lora": table}
    with pytest.raises(ConfigurationError, match="nonsense") as error:
        read(**table)
    known = set(error.value.message.split("known: ")[1].rstrip(")").split(", "))
    assert known == names


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"groups": 3, "group_size": 4, "mini_batch": 5}, r"mini_batch = 5 must divide .* = 12"),
        ({"groups": 2, "group_size": 4, "micro_batch": 3}, r"micro_batch = 3 must divide mini_batch = 8"),
        ({"group_size": 1}, "group_size"),
        ({"scale_rewards": "std"}, "none, group, batch"),
        ({"lora": 3}, r"written \[trl.lora\]"),
        ({"demonstrations": {"teacher": "clever"}}, "mixed, informed"),
    ],
)
def test_mistakes_are_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(**table)


def test_a_model_is_needed() -> None:
    with pytest.raises(ConfigurationError, match=r"trl\.model is missing"):
        read_trl(Reader("router.toml", {"trl": {}}), "trl")


def test_a_group_is_kept_in_memory_together() -> None:
    settings = read(groups=4, group_size=6)
    assert (settings.episodes, settings.update_size, settings.memory_size, settings.updates) == (24, 24, 6, 1)
    assert read(groups=4, group_size=6, mini_batch=8).memory_size == 2
    assert read(groups=4, group_size=6, mini_batch=12).updates == 2


def groups(questions: Sequence[int]) -> list[int]:
    """A question is its own group; even ones vary."""
    return list(questions)


def even(group: int) -> bool:
    return group % 2 == 0


def test_groups_that_do_not_vary_are_replaced() -> None:
    others = iter([5, 7, 8, 9, 10, 12])
    filled = fill([1, 2, 3, 4], groups, lambda n: [next(others) for _ in range(n)], even, max_batches=10)
    assert filled.groups == (2, 4, 8, 10)
    assert filled.varied == 4
    assert filled.batches == 4
    assert sorted(filled.played) == [1, 2, 3, 4, 5, 7, 8, 9, 10]


def test_no_more_batches_than_allowed_and_the_rest_stays() -> None:
    asked: list[int] = []

    def draw(count: int) -> list[int]:
        asked.append(count)
        return [101] * count

    filled = fill([1, 2, 3], groups, draw, even, max_batches=3)
    assert filled.groups == (2, 1, 3)
    assert (filled.varied, filled.batches, asked) == (1, 3, [2, 2])
    assert fill([1, 3], groups, draw, even, max_batches=1).varied == 0


def test_no_more_questions_end_the_search() -> None:
    filled = fill([1, 2], groups, lambda n: [], even, max_batches=10)
    assert (filled.groups, filled.varied, filled.batches) == ((2, 1), 1, 1)


def test_rewards_vary_by_more_than_the_tolerance() -> None:
    assert not vary([1.0, 1.0, 1.0], 1e-6)
    assert not vary([1.0, 1.0 + 1e-9], 1e-6)
    assert vary([0.999, 1.0], 1e-6), "all right, but at another cost"


@pytest.mark.parametrize(
    ("replies", "cost"), [([], 0), ([80], 0), ([90, 10], 0.1), ([100], 0.2), ([130], 0.2), ([85, 95], 0.15)]
)
def test_long_replies_cost_more_the_nearer_the_limit(replies: list[int], cost: float) -> None:
    assert overlong_penalty(replies, 100, buffer=20, penalty=0.2) == pytest.approx(cost)
    assert overlong_penalty(replies, 100, buffer=0, penalty=0.2) == 0.0

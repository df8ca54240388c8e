"""GPU hours and dollars of a training run, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xrouter.errors import ConfigurationError
from xrouter.training.router.estimate import Episodes, Hardware, Schedule, estimate

HARDWARE = Hardware(peak_tflops=1000, utilisation=0.36, decode_tokens_per_s=1000, usd_per_hour=2)
"""1.296e18 operations an hour."""
EPISODES = Episodes(prompt=1000, written=100, shown=200, calls_usd=0.01)
SCHEDULE = Schedule(steps=10, prompts=100, rollouts=4)
"""4,000 episodes."""


def test_worked_example() -> None:
    found = estimate(1e9, EPISODES, SCHEDULE, HARDWARE)
    assert found.decode_hours == pytest.approx(4000 * 100 / 1000 / 3600)
    assert found.prefill_hours == pytest.approx(2e9 * 4000 * (250 + 200) / 1.296e18)
    assert found.train_hours == pytest.approx(10e9 * 4000 * 1300 / 1.296e18)
    assert found.gpu_usd == pytest.approx(2 * found.gpu_hours)
    assert found.calls_usd == pytest.approx(40.0)


def test_dropped_groups_are_played_and_paid_for_but_not_trained_on() -> None:
    all_kept = estimate(1e9, EPISODES, SCHEDULE, HARDWARE)
    half_kept = estimate(1e9, EPISODES, replace(SCHEDULE, kept=0.5), HARDWARE)
    assert half_kept.train_hours == all_kept.train_hours
    assert half_kept.decode_hours == pytest.approx(2 * all_kept.decode_hours)
    assert half_kept.calls_usd == pytest.approx(2 * all_kept.calls_usd)


@pytest.mark.parametrize("kept", [0, -0.1, 1.01])
def test_a_share_that_is_none_is_refused(kept: float) -> None:
    with pytest.raises(ConfigurationError, match="kept"):
        Schedule(kept=kept)

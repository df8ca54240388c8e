"""Worked examples: each expected number follows from the comment beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from xrouter.errors import ConfigurationError, DataError
from xrouter.training.dapo import (
    clipped_token_mean_loss,
    group_relative_advantages,
    informative_groups,
    overlong_penalty,
    resample_until_informative,
)

ALL_RIGHT = [0.90, 0.91, 0.92, 0.93]  # costs differ a little
MIXED = [0.0, 0.0, 1.0, 1.0]


def log(*rows: Sequence[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


class TestAdvantages:
    def test_unscaled_is_reward_minus_group_mean(self) -> None:
        out = group_relative_advantages([[0.0, 1.0, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]])
        np.testing.assert_array_equal(out, [[-0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])

    def test_group_scale_divides_by_the_sample_deviation(self) -> None:
        # mean 2, deviations -2 0 2, sample variance 8 / 2 = 4
        out = group_relative_advantages([[0.0, 2.0, 4.0]], scale="group")
        np.testing.assert_allclose(out, [[-1.0, 0.0, 1.0]], rtol=1e-6)

    def test_batch_scale_divides_all_groups_alike(self) -> None:
        # all rewards: 0 2 4 6, mean 3, sample variance 20 / 3
        out = group_relative_advantages([[0.0, 2.0], [4.0, 6.0]], scale="batch")
        np.testing.assert_allclose(out, np.array([[-1.0, 1.0], [-1.0, 1.0]]) / (20 / 3) ** 0.5, rtol=1e-6)

    def test_group_scale_blows_up_small_cost_differences_and_the_others_do_not(self) -> None:
        def thrift_to_accuracy(scale: str) -> float:
            out = group_relative_advantages([ALL_RIGHT, MIXED], scale)  # type: ignore[arg-type]
            return float(np.ptp(out[0]) / np.ptp(out[1]))

        assert thrift_to_accuracy("none") == pytest.approx(0.03)
        assert thrift_to_accuracy("batch") == pytest.approx(0.03)
        assert thrift_to_accuracy("group") > 1

    @pytest.mark.parametrize("scale", ["none", "group", "batch"])
    def test_equal_rewards_and_single_rollouts_have_no_advantage(self, scale: str) -> None:
        assert not group_relative_advantages([[0.7] * 4], scale).any()  # type: ignore[arg-type]
        assert not group_relative_advantages([[0.7]], scale).any()  # type: ignore[arg-type]

    @pytest.mark.parametrize("rewards", [[1.0, 0.0], [[np.nan, 0.0]], [[np.inf, 0.0]], [[]]])
    def test_refuses_rewards_it_cannot_read(self, rewards: list[object]) -> None:
        with pytest.raises(DataError, match="rewards"):
            group_relative_advantages(rewards)  # type: ignore[arg-type]

    def test_refuses_an_unknown_scale(self) -> None:
        with pytest.raises(ConfigurationError, match="'std'"):
            group_relative_advantages([MIXED], "std")  # type: ignore[arg-type]


class TestLoss:
    def test_on_policy_is_minus_the_mean_advantage_over_tokens(self) -> None:
        # sequence 1 has 3 tokens, sequence 2 has 1: token mean (3 * 1 + 1 * -2) / 4, not the mean of means
        logp = log([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
        mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
        loss, seen = clipped_token_mean_loss(logp, logp, torch.tensor([1.0, -2.0]), mask)
        assert loss.item() == pytest.approx(-0.25)
        assert (seen.clipped_low, seen.clipped_high, seen.ratio_mean, seen.approx_kl) == (0, 0, 1, 0)

    @pytest.mark.parametrize(
        ("ratio", "advantage", "gain", "clipped"),
        [
            (1.5, 1.0, 1.28, "high"),  # better and already likelier: no more than 1 + 0.28
            (1.27, 1.0, 1.27, None),  # over 1.2, under 1.28: the higher bound leaves it room
            (0.5, 1.0, 0.5, None),  # better but less likely: unclipped, pulled back
            (0.5, -1.0, -0.8, "low"),  # worse and already less likely: no less than 1 - 0.2
            (1.5, -1.0, -1.5, None),  # worse but likelier: unclipped
        ],
    )
    def test_clips_asymmetrically(
        self, ratio: float, advantage: float, gain: float, clipped: str | None
    ) -> None:
        logp = log([0.2 * ratio]).requires_grad_()
        loss, seen = clipped_token_mean_loss(logp, log([0.2]), torch.tensor([advantage]), torch.ones(1, 1))
        assert loss.item() == pytest.approx(-gain)
        assert (seen.clipped_low, seen.clipped_high) == (clipped == "low", clipped == "high")
        loss.backward()
        assert logp.grad is not None
        # d loss / d logp = -r A inside the bounds, nothing outside
        assert logp.grad.item() == pytest.approx(0.0 if clipped else -ratio * advantage)

    def test_diagnostics_are_means_over_unmasked_tokens(self) -> None:
        # ratios 2, 1, (masked 9); k3 = 2 - 1 - ln 2 and 0
        loss, seen = clipped_token_mean_loss(
            log([0.4, 0.2, 0.9]),
            log([0.2, 0.2, 0.1]),
            torch.tensor([[1.0, 1.0, 1.0]]),
            torch.tensor([[1, 1, 0]]),
        )
        assert loss.item() == pytest.approx(-(1.28 + 1.0) / 2)
        assert seen.clipped_high == 0.5
        assert seen.ratio_mean == pytest.approx(1.5)
        assert seen.approx_kl == pytest.approx((1 - np.log(2)) / 2)

    def test_advantages_may_differ_by_position(self) -> None:
        logp = log([0.5, 0.5])
        loss, _ = clipped_token_mean_loss(logp, logp, torch.tensor([[1.0, 3.0]]), torch.ones(1, 2))
        assert loss.item() == pytest.approx(-2.0)

    def test_masked_infinities_and_huge_ratios_leave_finite_gradients(self) -> None:
        logp = torch.tensor([[-0.1, -torch.inf, -0.1]], requires_grad=True)
        old = torch.tensor([[-0.1, -torch.inf, -500.0]])
        loss, _ = clipped_token_mean_loss(logp, old, torch.tensor([1.0]), torch.tensor([[1, 0, 1]]))
        loss.backward()
        assert logp.grad is not None
        assert torch.isfinite(logp.grad).all()
        assert loss.item() == pytest.approx(-(1.0 + 1.28) / 2)

    def test_no_gradient_flows_into_old_probabilities_or_advantages(self) -> None:
        logp, old = log([0.5]).requires_grad_(), log([0.4]).requires_grad_()
        advantage = torch.tensor([1.0], requires_grad=True)
        clipped_token_mean_loss(logp, old, advantage, torch.ones(1, 1))[0].backward()
        assert logp.grad is not None
        assert old.grad is None
        assert advantage.grad is None

    def test_refuses_an_empty_mask(self) -> None:
        with pytest.raises(DataError, match="mask"):
            clipped_token_mean_loss(log([0.5]), log([0.5]), torch.tensor([1.0]), torch.zeros(1, 1))


class TestFiltering:
    def test_filters_on_reward_not_on_accuracy(self) -> None:
        rewards = [MIXED, ALL_RIGHT, [0.9] * 4, [0.0] * 4]
        np.testing.assert_array_equal(informative_groups(rewards), [True, True, False, False])

    def test_tolerance_is_the_largest_difference_that_counts_as_none(self) -> None:
        rewards = [[0.5, 0.75], [0.5, 0.5 + 1e-12]]
        np.testing.assert_array_equal(informative_groups(rewards), [True, False])
        np.testing.assert_array_equal(informative_groups(rewards, tolerance=0.25), [False, False])


class TestResampling:
    def test_asks_again_for_what_is_missing(self) -> None:
        batches = [(["a", "b", "c"], [MIXED, [1.0] * 4, MIXED]), (["d"], [[0.0] * 4]), (["e"], [ALL_RIGHT])]
        asked = []

        def sample(missing: int) -> tuple[list[str], list[list[float]]]:
            asked.append(missing)
            return batches[len(asked) - 1]

        out = resample_until_informative(sample, 3)
        assert asked == [3, 1, 1]
        assert out.groups == ("a", "c", "e")
        np.testing.assert_array_equal(out.rewards_PG, [MIXED, MIXED, ALL_RIGHT])
        assert (out.batches, out.seen, out.short) == (3, 5, 0)

    def test_drops_surplus(self) -> None:
        out = resample_until_informative(lambda _: (list(range(5)), [MIXED] * 5), 2)
        assert out.groups == (0, 1)
        assert out.rewards_PG.shape == (2, 4)

    def test_stops_at_the_limit_and_says_how_many_are_missing(self) -> None:
        calls = []

        def sample(missing: int) -> tuple[list[int], list[list[float]]]:
            calls.append(missing)
            return [len(calls)], [MIXED if len(calls) == 1 else [1.0] * 4]

        out = resample_until_informative(sample, 4)
        assert (len(calls), out.groups, out.batches, out.short) == (10, (1,), 10, 3)

    def test_may_find_nothing(self) -> None:
        out = resample_until_informative(lambda n: ([0] * n, [[1.0, 1.0]] * n), 2, max_batches=3)
        assert (out.groups, len(out.rewards_PG), out.short) == ((), 0, 2)

    def test_refuses_a_sampler_that_miscounts(self) -> None:
        with pytest.raises(DataError, match="1 groups but rewards of 2"):
            resample_until_informative(lambda _: ([0], [MIXED, MIXED]), 1)

    @pytest.mark.parametrize(("needed", "limit", "named"), [(0, 10, "groups_needed"), (1, 0, "max_batches")])
    def test_refuses_limits_under_one(self, needed: int, limit: int, named: str) -> None:
        with pytest.raises(ConfigurationError, match=named):
            resample_until_informative(lambda _: ([0], [MIXED]), needed, limit)


class TestOverlongPenalty:
    def test_is_soft_within_the_buffer_and_flat_beyond(self) -> None:
        # free to 80, then one twentieth a token, -1 from 100 on
        out = overlong_penalty([0, 80, 81, 90, 100, 500], max_length=100, buffer=20)
        np.testing.assert_allclose(out, [0, 0, -0.05, -0.5, -1, -1])

    def test_factor_scales_it(self) -> None:
        assert overlong_penalty(90, 100, 20, factor=0.5) == pytest.approx(-0.25)

    @pytest.mark.parametrize(
        ("buffer", "factor", "named"), [(0, 1.0, "buffer"), (101, 1.0, "buffer"), (20, -1.0, "factor")]
    )
    def test_refuses_settings_that_make_no_sense(self, buffer: int, factor: float, named: str) -> None:
        with pytest.raises(ConfigurationError, match=named):
            overlong_penalty(90, 100, buffer, factor)

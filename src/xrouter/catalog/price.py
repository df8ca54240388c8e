"""Exact money. Prices are US dollars per million tokens, costs are Decimal dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ..messages import Usage

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens. Reasoning tokens are billed as output unless `reasoning` says otherwise."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    reasoning: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates for calls whose prompt is longer than `above_prompt_tokens` (the whole call is billed at them)."""

    above_prompt_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """What a model charges, since when, and where that was read."""

    rates: Rates
    dated: date
    source: str
    tiers: tuple[Tier, ...] = ()

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of the highest tier that a prompt of this many tokens reaches."""
        reached = [tier for tier in self.tiers if prompt_tokens > tier.above_prompt_tokens]
        if not reached:
            return self.rates
        return max(reached, key=lambda tier: tier.above_prompt_tokens).rates

    def cost(self, usage: Usage) -> Decimal:
        """USD for one call: input, cached input, output and hidden reasoning tokens, each at its rate."""
        rates = self.rates_for(usage.prompt_tokens)
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        reasoning = min(usage.reasoning_tokens, usage.completion_tokens)
        cached_rate = rates.input if rates.cached_input is None else rates.cached_input
        reasoning_rate = rates.output if rates.reasoning is None else rates.reasoning
        return (
            (usage.prompt_tokens - cached) * rates.input
            + cached * cached_rate
            + (usage.completion_tokens - reasoning) * rates.output
            + reasoning * reasoning_rate
        ) / MILLION


def dearest(prices: Sequence[Price]) -> Price:
    """A price that is nowhere below any of these: what a call costs at most wherever it goes."""
    if all(price == prices[0] for price in prices):
        return prices[0]
    starts = sorted({tier.above_prompt_tokens for price in prices for tier in price.tiers})
    return Price(
        rates=_highest([price.rates for price in prices]),
        dated=min(price.dated for price in prices),
        source="the dearest of " + ", ".join(dict.fromkeys(price.source for price in prices)),
        tiers=tuple(
            Tier(start, _highest([price.rates_for(start + 1) for price in prices])) for start in starts
        ),
    )


def _highest(rates: Sequence[Rates]) -> Rates:
    return Rates(
        input=max(rate.input for rate in rates),
        output=max(rate.output for rate in rates),
        cached_input=max(rate.input if rate.cached_input is None else rate.cached_input for rate in rates),
        reasoning=max(rate.output if rate.reasoning is None else rate.reasoning for rate in rates),
    )

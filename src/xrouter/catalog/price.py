"""Exact money. Prices are US dollars per million tokens, costs are Decimal dollars."""

from __future__ import annotations

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

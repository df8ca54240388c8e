"""Prices from the installed `genai-prices` data. Read offline; imported only when a model asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from ..errors import UnknownPriceError
from .price import Price, Rates, Tier

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice

SCHEME = "genai-prices:"


def published_price(model: str, reference: str, today: date | None = None, *, output: bool = True) -> Price:
    """The price of `reference`, "<provider>/<model>" in the words of genai-prices, as of `today` (UTC).

    A price that depends on the hour is taken at its dearest, so that a cost is never counted too low. Dated by the
    newest change in the data that is not in the future: the data carries no date of its own. output: False for a
    model without any, such as one of embeddings; else a price without one is unknown.

    Raises UnknownPriceError naming `model` where the data does not know the reference, or where it charges by
    the request, which a price per token cannot say.
    """
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    provider_id, _, model_ref = reference.partition("/")
    today = today or datetime.now(UTC).date()
    source = f"genai-prices {genai_prices.__version__} ({reference})"
    try:
        _, info = get_snapshot().find_provider_model(model_ref, None, provider_id, None)
    except LookupError:
        raise UnknownPriceError(
            f"model {model!r}: {source} knows no price for it; write the price out as "
            f'[models."{model}".price] with input and output in USD per million tokens, '
            "or name another reference",
            param="price",
        ) from None
    current = _dearest(_applicable(info, today))
    if current is None or current.input_mtok is None or (output and current.output_mtok is None):
        raise UnknownPriceError(
            f"model {model!r}: {source} has no price per input and output token; write it out as "
            f'[models."{model}".price] with input and output in USD per million tokens',
            param="price",
        )
    if current.requests_kcount is not None:
        raise UnknownPriceError(
            f"model {model!r}: {source} also charges for each request, which a price per token cannot say; "
            f'write a price that covers it as [models."{model}".price]',
            param="price",
        )
    starts = sorted({start for value in _rates_of(current) for start in _starts(value)})
    return Price(
        rates=_rates_at(current, 0),
        dated=_data_date(today),
        source=source,
        tiers=tuple(Tier(start, _rates_at(current, start + 1)) for start in starts),
    )


def _applicable(info: ModelInfo, today: date) -> list[ModelPrice]:
    """The prices of today: of conditional ones the last that holds wins, and any hour may come."""
    from genai_prices.types import ModelPrice, StartDateConstraint, TimeOfDateConstraint

    if isinstance(info.prices, ModelPrice):
        return [info.prices]
    possible: list[ModelPrice] = []
    conditional: ConditionalPrice
    for conditional in reversed(info.prices):
        constraint = conditional.constraint
        if isinstance(constraint, TimeOfDateConstraint):
            possible.append(conditional.prices)
        elif not isinstance(constraint, StartDateConstraint) or constraint.start_date <= today:
            return [*possible, conditional.prices]
    return possible or [conditional.prices for conditional in info.prices[:1]]


def _dearest(prices: Iterable[ModelPrice]) -> ModelPrice | None:
    def rank(price: ModelPrice) -> tuple[Decimal, Decimal]:
        return _at(price.output_mtok, 0) or Decimal(0), _at(price.input_mtok, 0) or Decimal(0)

    return max(prices, key=rank, default=None)


def _rates_of(price: ModelPrice) -> tuple[object, ...]:
    return (
        price.input_mtok,
        price.output_mtok,
        price.cache_read_mtok,
        getattr(price, "output_reasoning_mtok", None),
    )


def _rates_at(price: ModelPrice, prompt_tokens: int) -> Rates:
    input_, output, cached, reasoning = (_at(value, prompt_tokens) for value in _rates_of(price))
    assert input_ is not None
    return Rates(input=input_, output=output or Decimal(0), cached_input=cached, reasoning=reasoning)


def _starts(value: object) -> list[int]:
    return [tier.start for tier in getattr(value, "tiers", ())]


def _at(value: object, prompt_tokens: int) -> Decimal | None:
    """A flat price, or the rate of the highest tier that starts below `prompt_tokens`."""
    from genai_prices.types import TieredPrices

    if not isinstance(value, TieredPrices):
        return value if isinstance(value, Decimal) else None
    reached = [tier.price for tier in value.tiers if prompt_tokens > tier.start]
    return reached[-1] if reached else value.base


@cache
def _data_date(today: date) -> date:
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import ModelPrice, StartDateConstraint

    starts = (
        conditional.constraint.start_date
        for provider in get_snapshot().providers
        for model in provider.models
        if not isinstance(model.prices, ModelPrice)
        for conditional in model.prices
        if isinstance(conditional.constraint, StartDateConstraint)
    )
    return max((start for start in starts if start <= today), default=today)

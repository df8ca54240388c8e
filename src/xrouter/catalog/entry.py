"""One [models.<name>] table of a catalog file or of xrouter.toml, checked field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from ..errors import ConfigurationError, UnknownPriceError
from ..settings import EndpointKind
from ..toml_reader import Reader, number, one_of, whole
from .model import KINDS, TIERS, Model
from .price import Price, Rates, Tier
from .published_prices import SCHEME, published_price

MODALITIES = ("text", "image", "audio", "video", "file")
DEFAULT_MAX_OUTPUT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """A model without its price worked out: what can be known without reading any price data.

    automatic: joins a pool by itself when its endpoint's key is there; retired models do not.
    price: an explicit price, or a reference into the published data.
    """

    name: str
    provider: str
    automatic: bool
    fields: Mapping[str, Any]
    price: Price | str

    def model(self, kind: EndpointKind) -> Model:
        """Raises UnknownPriceError where the published data does not know the reference."""
        price = self.price
        if not isinstance(price, Price):
            price = published_price(self.name, price, output=self.fields.get("kind") != "embedding")
        return Model(
            name=self.name,
            provider=self.provider,
            price=price,
            simulated=kind == "simulated",
            **self.fields,
        )


def read_entry(reader: Reader, name: str, *, default_source: str | None = None) -> Entry:
    """Raises ConfigurationError naming file, key and value; UnknownPriceError where there is no price.

    default_source: what an explicit price without a source is said to come from; None = it must say so itself.
    """
    values = reader.read(_READERS)
    for key in ("provider", "tier", "context_window"):
        if key not in values:
            raise ConfigurationError(
                f"{reader.file}: [{reader.prefix}] lacks {key}: a model that the catalog does not have needs "
                "provider, tier, context_window and price",
                param=reader.dotted(key),
            )
    if "price" not in values:
        raise UnknownPriceError(
            f"{reader.file}: model {name!r} has no price; add [{reader.prefix}.price] with input and output in "
            f'USD per million tokens ("0" for a free one), or price = "{SCHEME}<provider>/<model>"',
            param=reader.dotted("price"),
        )
    price = values.pop("price")
    if isinstance(price, Reader):
        price = _explicit_price(price, default_source, output=values.get("kind") != "embedding")
    window = values["context_window"]
    provider, automatic = values.pop("provider"), values.pop("automatic", True)
    fields = {"id": name, "max_output_tokens": min(DEFAULT_MAX_OUTPUT_TOKENS, window), **values}
    return Entry(name, provider, automatic, fields, price)


def _price(reader: Reader, key: str) -> Reader | str:
    value = reader.table[key]
    if isinstance(value, dict):
        return reader.subtable(key)
    if isinstance(value, str) and value.startswith(SCHEME) and "/" in value:
        return value.removeprefix(SCHEME)
    raise reader.wrong(key, f'a table with input and output, or "{SCHEME}<provider>/<model>"')


def _dollars(reader: Reader, key: str) -> Decimal:
    value = reader.table[key]
    wanted = 'USD per million tokens as a string of decimals such as "0.15"'
    if not isinstance(value, str):
        raise reader.wrong(key, wanted)
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise reader.wrong(key, wanted) from None
    if not amount.is_finite() or amount < 0:
        raise reader.wrong(key, wanted)
    return amount


def _day(reader: Reader, key: str) -> date:
    value = reader.table[key]
    if type(value) is not date:
        raise reader.wrong(key, "a date such as 2026-11-21, without quotes")
    return value


def _explicit_price(reader: Reader, default_source: str | None, *, output: bool) -> Price:
    """output: whether it must say what output costs; embeddings have none."""
    values = reader.read(_PRICE_READERS)
    if not output:
        values = {"output": Decimal(0), **values}
    if default_source is not None:
        values = {"dated": date.today(), "source": default_source, **values}
    for key in ("input", "output", "dated", "source"):
        if key not in values:
            raise UnknownPriceError(f"{reader.file}: [{reader.prefix}] lacks {key}", param=reader.dotted(key))
    return Price(
        rates=_rates(values),
        dated=values["dated"],
        source=values["source"],
        tiers=values.get("tiers", ()),
    )


def _tiers(reader: Reader, key: str) -> tuple[Tier, ...]:
    value = reader.table[key]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise reader.wrong(key, "a list of tables with above_prompt_tokens, input and output")
    tiers = []
    for index, item in enumerate(value):
        inner = Reader(reader.file, item, f"{reader.dotted(key)}[{index}]")
        values = inner.read({"above_prompt_tokens": whole(1), **_RATE_READERS})
        for needed in ("above_prompt_tokens", "input", "output"):
            if needed not in values:
                raise UnknownPriceError(
                    f"{reader.file}: {inner.prefix} lacks {needed}", param=inner.dotted(needed)
                )
        tiers.append(Tier(values["above_prompt_tokens"], _rates(values)))
    return tuple(tiers)


def _rates(values: Mapping[str, Any]) -> Rates:
    return Rates(values["input"], values["output"], values.get("cached_input"), values.get("reasoning"))


def _modalities(reader: Reader, key: str) -> tuple[str, ...]:
    values = reader.texts(key)
    if not set(values) <= set(MODALITIES):
        raise reader.wrong(key, f"a list out of {', '.join(MODALITIES)}")
    return values


def _options(reader: Reader, key: str) -> dict[str, object]:
    return dict(reader.subtable(key).table)


_RATE_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "input": _dollars,
    "output": _dollars,
    "cached_input": _dollars,
    "reasoning": _dollars,
}
_PRICE_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    **_RATE_READERS,
    "dated": _day,
    "source": Reader.text,
    "tiers": _tiers,
}
_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "provider": Reader.text,
    "kind": one_of(*KINDS),
    "id": Reader.text,
    "tier": one_of(*TIERS),
    "context_window": whole(1),
    "max_output_tokens": whole(1),
    "modalities": _modalities,
    "tools": Reader.flag,
    "reasoning": Reader.flag,
    "structured_output": Reader.flag,
    "tags": Reader.texts,
    "description": Reader.text,
    "capability": number(0, 1),
    "typical_output_tokens": whole(1),
    "automatic": Reader.flag,
    "price": _price,
    "options": _options,
}

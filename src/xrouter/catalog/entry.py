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
from .model import KINDS, TIERS, Model, ModelEndpoint
from .price import Price, Rates, Tier, dearest
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
    endpoints: tuple[EndpointEntry, ...] = ()

    @property
    def providers(self) -> tuple[str, ...]:
        """Every endpoint of the settings that serves it."""
        return tuple(dict.fromkeys(place.provider for place in self.endpoints)) or (self.provider,)

    def model(self, kind: EndpointKind) -> Model:
        """Raises UnknownPriceError where the published data does not know the reference."""
        price = self._priced(self.price)
        endpoints = tuple(
            ModelEndpoint(
                name=place.name,
                provider=place.provider,
                id=place.id,
                price=price if place.price is None else self._priced(place.price),
                weight=place.weight,
            )
            for place in self.endpoints
        )
        return Model(
            name=self.name,
            provider=self.provider,
            price=dearest([place.price for place in endpoints]) if endpoints else price,
            simulated=kind == "simulated",
            endpoints=endpoints,
            **self.fields,
        )

    def _priced(self, price: Price | str) -> Price:
        if isinstance(price, Price):
            return price
        return published_price(self.name, price, output=self.fields.get("kind") != "embedding")


@dataclass(frozen=True, slots=True)
class EndpointEntry:
    """One of a model's endpoints; `price` None = the model's own."""

    name: str
    provider: str
    id: str
    weight: float
    price: Price | str | None


def read_entry(reader: Reader, name: str, *, default_source: str | None = None) -> Entry:
    """Raises ConfigurationError naming file, key and value; UnknownPriceError where there is no price.

    default_source: what an explicit price without a source is said to come from; None = it must say so itself.
    """
    values = reader.read(_READERS)
    endpoints = _endpoints(reader, name, default_source)
    if endpoints:
        values.update(provider=endpoints[0].provider, id=endpoints[0].id)
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
    values.pop("endpoints", None)
    if "hedge" in values:
        values["hedge_percentile"] = values.pop("hedge")
    fields = {"id": name, "max_output_tokens": min(DEFAULT_MAX_OUTPUT_TOKENS, window), **values}
    if "hedge_after_s" in fields and "hedge_percentile" in fields:
        raise ConfigurationError(
            f"{reader.file}: [{reader.prefix}] has both hedge and hedge_after_s; keep one",
            param=reader.dotted("hedge"),
        )
    hedged = [key for key in ("hedge", "hedge_after_s") if key in reader.table]
    if hedged and fields.get("kind") == "embedding":
        raise ConfigurationError(
            f"{reader.file}: [{reader.prefix}] has {hedged[0]}, but calls of an embedding model are not hedged;"
            " take it out",
            param=reader.dotted(hedged[0]),
        )
    return Entry(name, provider, automatic, fields, price, endpoints)


def _endpoints(reader: Reader, model: str, default_source: str | None) -> tuple[EndpointEntry, ...]:
    """Raises ConfigurationError for an endpoint without a provider and for two of one name."""
    found: list[EndpointEntry] = []
    for index, table in enumerate(reader.table.get("endpoints", ())):
        inner = Reader(reader.file, table, f"{reader.dotted('endpoints')}[{index}]")
        values = inner.read(_ENDPOINT_READERS)
        if "provider" not in values:
            raise ConfigurationError(
                f"{reader.file}: {inner.prefix} lacks provider: the name of an [endpoints.<name>] table",
                param=inner.dotted("provider"),
            )
        price = values.get("price")
        if isinstance(price, Reader):
            price = _explicit_price(price, default_source, output=reader.table.get("kind") != "embedding")
        name = values.get("name", values["provider"])
        if name in [place.name for place in found]:
            raise ConfigurationError(
                f"{reader.file}: {inner.prefix} is the second endpoint called {name!r}; give it a name of its own",
                param=inner.dotted("name"),
            )
        id_ = values.get("id", reader.table.get("id", model))
        found.append(EndpointEntry(name, values["provider"], id_, values.get("weight", 1.0), price))
    return tuple(found)


def _tables(reader: Reader, key: str) -> None:
    value = reader.table[key]
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise reader.wrong(key, 'a non-empty list of tables such as [{ provider = "azure-eu", weight = 3 }]')


def _percentile(reader: Reader, key: str) -> float:
    value = reader.table[key]
    percent = value[1:] if isinstance(value, str) and value.startswith("p") else ""
    if not percent.isdecimal() or not 50 <= int(percent) <= 99:
        raise reader.wrong(key, 'a percentile from "p50" to "p99" such as "p95"')
    return float(percent)


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
    "endpoints": _tables,
    "hedge": _percentile,
    "hedge_after_s": number(0, above=True),
}
_ENDPOINT_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "name": Reader.text,
    "provider": Reader.text,
    "id": Reader.text,
    "weight": number(0, above=True),
    "price": _price,
}

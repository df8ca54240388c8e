"""The catalog: every model that is known, where it is served and what it costs. Sole reader of its files."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from ..errors import ConfigurationError, ModelNotFoundError
from ..settings import Endpoint, Settings, read_endpoint
from ..toml_reader import Reader, nearest
from .entry import Entry, read_entry
from .model import Model


class Catalog:
    """Models by name. A model's price is worked out on first use, so that loading reads no price data;
    models that the user's settings touch are worked out at load, so that their mistakes show at once.

    endpoints: name -> where it is and which variable holds its key.
    """

    def __init__(self, entries: Mapping[str, Entry], endpoints: Mapping[str, Endpoint]) -> None:
        """Raises ConfigurationError where a model names an endpoint that is not there."""
        self.entries = dict(entries)
        self.endpoints = dict(endpoints)
        self._models: dict[str, Model] = {}
        for entry in self.entries.values():
            for provider in entry.providers:
                if provider not in self.endpoints:
                    raise ConfigurationError(
                        f"model {entry.name!r} names provider {provider!r}, which is no endpoint"
                        f"{nearest(provider, self.endpoints)}: add [endpoints.{provider}] with a base_url "
                        f"(known: {', '.join(self.endpoints)})",
                        param=f"models.{entry.name}.provider",
                    )

    @classmethod
    def load(cls, settings: Settings | None = None) -> Catalog:
        """The catalog's own files with the user's models and endpoints laid over them.

        Raises ConfigurationError naming file, key and value, and UnknownPriceError for a model without a price.
        """
        settings = settings or Settings()
        tables, endpoints = _packaged()
        entries = {
            name: read_entry(Reader(file, table, f"models.{name}"), name)
            for name, (file, table) in tables.items()
            if name not in settings.models
        }
        said_in = str(settings.file or "settings")
        for name, table in settings.models.items():
            _, packaged = tables.get(name, ("", {}))
            reader = Reader(said_in, {**packaged, **table}, f"models.{name}")
            entries[name] = read_entry(reader, name, default_source=said_in)
        catalog = cls(entries, {**endpoints, **settings.endpoints})
        for name in settings.models:
            catalog[name]
        return catalog

    def __getitem__(self, name: str) -> Model:
        """Raises ModelNotFoundError with the names that come close, UnknownPriceError as `Entry.model` does."""
        if name not in self._models:
            entry = self.entries.get(name)
            if entry is None:
                close = difflib.get_close_matches(name, self.entries, n=3, cutoff=0.4)
                hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(self.entries)}"
                raise ModelNotFoundError(
                    f"model {name!r} is not in the catalog; {hint} A new model is a [models.{name}] table "
                    "in xrouter.toml",
                    param="model",
                )
            self._models[name] = entry.model(self.endpoints[entry.provider].kind)
        return self._models[name]

    def __iter__(self) -> Iterator[Model]:
        return (self[name] for name in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def providers_of(self, name: str) -> tuple[str, ...]:
        """The endpoints that serve the model, the first one first. Raises ModelNotFoundError."""
        entry = self.entries.get(name)
        return entry.providers if entry else (self[name].provider,)

    def endpoint_of(self, name: str) -> Endpoint:
        """Raises ModelNotFoundError for an unknown model."""
        entry = self.entries.get(name)
        return self.endpoints[entry.provider if entry else self[name].provider]


def _packaged() -> tuple[dict[str, tuple[str, Mapping[str, Any]]], dict[str, Endpoint]]:
    """The raw model tables (with the file each is from) and endpoints of the package, in the files' order."""
    tables: dict[str, tuple[str, Mapping[str, Any]]] = {}
    endpoints: dict[str, Endpoint] = {}
    folder = resources.files(__package__).joinpath("models")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        provider = file.name.removesuffix(".toml")
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        endpoints[provider] = read_endpoint(Reader(file.name, content["endpoint"], "endpoint"))
        for name, table in content["models"].items():
            if name in tables:
                raise ConfigurationError(f"{file.name}: model {name!r} is already in {tables[name][0]}")
            tables[name] = (file.name, {"provider": provider, **table})
    return tables, endpoints

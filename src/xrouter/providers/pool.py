"""A pool: the models a request may be routed to, each with the provider that serves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..catalog.model import Model
from ..errors import ConfigurationError, ModelNotFoundError
from .health import Health, health_of
from .provider import Provider


@dataclass(frozen=True)
class Pool:
    """Models in a fixed order and their providers. `notice` is said to users first (a simulated pool says so).

    routes: by model name, what is asked in place of its provider: a choice among endpoints, hedged calls.
    embedders: models that give embeddings. They are served by name and no part of what a policy chooses from.
    """

    models: tuple[Model, ...]
    providers: Mapping[str, Provider]
    notice: str | None = None
    routes: Mapping[str, Provider] = field(default_factory=dict)
    embedders: tuple[Model, ...] = ()
    _by_name: Mapping[str, Model] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {model.name: model for model in self.models})
        if not self.models:
            raise ConfigurationError("the pool is empty: set a provider's API key or add a model")
        names = [model.name for model in (*self.models, *self.embedders)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"the pool names these models twice: {', '.join(twice)}")
        for model in (*self.models, *self.embedders):
            if model.name not in self.routes and model.provider not in self.providers:
                raise ConfigurationError(
                    f"model {model.name!r} names provider {model.provider!r}, which the pool lacks"
                )

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Model:
        model = self._by_name.get(name)
        if model is not None:
            return model
        raise ModelNotFoundError(
            f"model {name!r} is not in the pool; it has {', '.join(m.name for m in self.models)}",
            param="model",
        )

    def embedder(self, name: str) -> Model:
        """Raises ModelNotFoundError for a name that is no embedding model of this pool."""
        for model in self.embedders:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.embedders) or "none"
        raise ModelNotFoundError(
            f"model {name!r} is no embedding model of this pool; it has {known}", param="model"
        )

    def provider_of(self, model: Model) -> Provider:
        route = self.routes.get(model.name)
        return self.providers[model.provider] if route is None else route

    def health(self, name: str) -> Health:
        """Whether the model may be asked now; nobody is called. Raises ModelNotFoundError."""
        model = self[name]
        return health_of(self.provider_of(model), model)

    def healthy_names(self) -> tuple[str, ...]:
        """The models that may be asked now: neither cooling down nor with an open circuit."""
        return tuple(model.name for model in self.models if health_of(self.provider_of(model), model).ok)

    def restricted_to(self, names: Sequence[str]) -> Pool:
        """The same pool with only these models, in this order."""
        return replace(self, models=tuple(self[name] for name in names))

    @property
    def reference(self) -> Model:
        """The most capable model: the one that savings are measured against.

        Highest stated capability; where none is stated, the highest output price.
        """
        return max(
            self.models,
            key=lambda m: (m.capability or 0.0, m.price.rates.output, m.price.rates.input),
        )

    async def aclose(self) -> None:
        for provider in self.providers.values():
            await provider.aclose()

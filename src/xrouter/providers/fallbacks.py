"""Which model is asked next when one that was asked for by name does not answer. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import ConfigurationError, ProviderError, ProviderRequestError
from ..settings import Settings
from ..toml_reader import nearest


def chain(model: str, settings: Settings) -> tuple[str, ...]:
    """The model itself and those to be asked after it, in order.

    Chains are not followed: the fallbacks of a fallback are not asked, so no chain can come back to its start.
    """
    return (model, *settings.fallbacks.get(model, ()))


def falls_back(error: ProviderError) -> bool:
    """Whether another model may be asked after this error, which came before the first byte of an answer.

    Everything but a request that the upstream refused as invalid: that is the caller's to mend.
    """
    return not isinstance(error, ProviderRequestError)


def check_fallbacks(fallbacks: Mapping[str, tuple[str, ...]], pool: Collection[str]) -> None:
    """Raises ConfigurationError for a name that is not in the pool, a chain that names its own model, or one that names
    a model twice."""
    for model, names in fallbacks.items():
        for name in (model, *names):
            if name not in pool:
                raise ConfigurationError(
                    f"fallbacks.{model} names model {name!r}, which is not in the pool{nearest(name, pool)}"
                    f" (it has {', '.join(pool)})",
                    param=f"fallbacks.{model}",
                )
        repeated = model if model in names else next((n for n in names if names.count(n) > 1), None)
        if repeated is not None:
            raise ConfigurationError(
                f"fallbacks.{model} goes in a circle: it names {repeated!r} again; name every model once",
                param=f"fallbacks.{model}",
            )

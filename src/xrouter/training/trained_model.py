"""The model that is being trained, as the catalog would have it: its window, its limits and what its tokens cost."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from ..catalog.model import Model
from ..catalog.price import Price, Rates
from ..policies.router_model import priced_model
from ..settings_tables.router_llm import RouterLLMSettings

NAME = "router"


def trained_model(options: RouterLLMSettings) -> Model:
    """Without a price its tokens are free, which is said nowhere but here: training knows no endpoint to look one up at.

    Raises ConfigurationError for a price that cannot be read.
    """
    name = options.model or NAME
    if options.price is not None:
        return priced_model(name, options)
    free = Price(Rates(Decimal(0), Decimal(0)), date(1970, 1, 1), "a router whose tokens are not charged")
    return Model(name, "nobody", name, "budget", free, options.context_window, options.max_tokens)

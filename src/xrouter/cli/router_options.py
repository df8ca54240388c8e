"""The options that name the language model of the policy `tool-calling`, for every command that takes a policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..settings import Settings

RouterUrl = Annotated[
    str | None,
    typer.Option(
        "--router-url", help="Where the model that decides is served, such as http://127.0.0.1:8000/v1."
    ),
]
RouterModel = Annotated[
    str | None,
    typer.Option("--router-model", help="The model that decides: its id there, or a catalog's name."),
]
RouterKeyEnv = Annotated[
    str | None, typer.Option("--router-key-env", help="The environment variable with that endpoint's key.")
]
RouterPrice = Annotated[
    str | None,
    typer.Option(
        "--router-price", help="IN/OUT in USD per million tokens, where the catalog knows no price."
    ),
]


def with_router(
    policy: str | None,
    settings: Settings,
    url: str | None,
    model: str | None,
    key_env: str | None,
    price: str | None,
) -> tuple[str | None, Settings]:
    """(the policy, the settings with these options over [router_llm]); naming a model that decides means `tool-calling`.

    Raises ConfigurationError for an option that cannot be, or one given with another policy.
    """
    from ..errors import ConfigurationError
    from ..policies.checkpoint import TOOL_CALLING
    from ..settings_tables.router_llm import router_llm_from_options

    options = {"url": url, "model": model, "key_env": key_env, "price": price}
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return policy, settings
    chosen = policy or settings.policy or TOOL_CALLING
    if chosen != TOOL_CALLING:
        option = f"--router-{next(iter(given)).replace('_', '-')}"
        raise ConfigurationError(
            f"{option} is for the policy {TOOL_CALLING}, but the policy is {chosen!r}: add --policy {TOOL_CALLING}",
            param=option,
        )
    return chosen, replace(settings, router_llm=router_llm_from_options(settings.router_llm, given))

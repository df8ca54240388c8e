from __future__ import annotations

import pytest

from xrouter.errors import (
    ConfigurationError,
    ModelCoolingError,
    ProviderAuthError,
    ProviderError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from xrouter.providers.fallbacks import chain, check_fallbacks, falls_back
from xrouter.settings import Settings

POOL = ["gpt-x", "claude-y", "gemini-z"]
SETTINGS = Settings(fallbacks={"gpt-x": ("claude-y", "gemini-z"), "claude-y": ("gpt-x",)})


def test_a_chain_begins_with_the_model_and_is_not_followed_further() -> None:
    assert chain("gpt-x", SETTINGS) == ("gpt-x", "claude-y", "gemini-z")
    assert chain("claude-y", SETTINGS) == ("claude-y", "gpt-x")
    assert chain("gemini-z", SETTINGS) == ("gemini-z",)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProviderTimeoutError, True),
        (ProviderAuthError, True),
        (ProviderResponseError, True),
        (ModelCoolingError, True),
        (ProviderRequestError, False),
    ],
)
def test_what_falls_back(error: type[ProviderError], expected: bool) -> None:
    assert falls_back(error("x")) is expected


def test_good_fallbacks_pass() -> None:
    check_fallbacks(SETTINGS.fallbacks, POOL)


@pytest.mark.parametrize(
    ("fallbacks", "message"),
    [
        ({"gpt-x": ("claude-z",)}, r"fallbacks\.gpt-x names model 'claude-z'.*did you mean 'claude-y'"),
        ({"gpt": ("claude-y",)}, "'gpt', which is not in the pool"),
        ({"gpt-x": ("claude-y", "gpt-x")}, "circle: it names 'gpt-x' again"),
        ({"gpt-x": ("claude-y", "gemini-z", "claude-y")}, "circle: it names 'claude-y' again"),
    ],
)
def test_bad_fallbacks_are_configuration_errors(fallbacks: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_fallbacks(fallbacks, POOL)

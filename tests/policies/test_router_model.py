"""Settings and options -> the model that decides."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model

from xrouter.cli.router_options import with_router
from xrouter.errors import ConfigurationError, UnknownPriceError
from xrouter.policies.checkpoint import load_policy
from xrouter.policies.router_model import tool_calling_policy
from xrouter.policies.tool_calling import ToolCallingPolicy
from xrouter.settings import Settings, load_settings
from xrouter.settings_tables.router_llm import CALL_ARGUMENTS, RouterLLMSettings

POOL = (make_model("small"), make_model("big"))
LOCAL = {
    "model": "qwen",
    "url": "http://127.0.0.1:8000/v1",
    "price": {"input": "0.05", "output": "0.1"},
}


def made(env: dict[str, str] | None = None, **table: Any) -> ToolCallingPolicy:
    return tool_calling_policy(Settings(router_llm=RouterLLMSettings(**table)), POOL, env or {})


def test_an_endpoint_of_ones_own() -> None:
    policy = made(**LOCAL, context_window=8192)
    assert (policy.model.id, policy.model.context_window) == ("qwen", 8192)
    assert policy.model.price.rates.output == Decimal("0.1")
    assert policy.version == "qwen"


def test_a_model_of_the_catalog_brings_endpoint_and_price() -> None:
    policy = made({"OPENAI_API_KEY": "sk-x"}, model="gpt-5-mini")
    assert policy.model.provider == "openai"
    assert policy.model.price.rates.input > 0
    cheaper = made({"OPENAI_API_KEY": "sk-x"}, model="gpt-5-mini", price={"input": "0", "output": "0"})
    assert cheaper.model.price.rates.input == 0
    elsewhere = made(model="gpt-5-mini", url="http://127.0.0.1:1/v1")
    assert elsewhere.model.provider == "router_llm"
    assert elsewhere.model.price == policy.model.price


@pytest.mark.parametrize(
    ("table", "kind", "told"),
    [
        ({}, ConfigurationError, "router_llm.model (--router-model)"),
        ({"model": "gpt-5-mni", "price": {"input": "1", "output": "1"}}, ConfigurationError, "gpt-5-mini"),
        ({**LOCAL, "price": None}, UnknownPriceError, "--router-price 0.05/0.10"),
        ({**LOCAL, "price": {"input": "1"}}, UnknownPriceError, "lacks output"),
        ({**LOCAL, "price": {"input": 1, "output": 2}}, ConfigurationError, "string of decimals"),
        ({**LOCAL, "key_env": "LAB_KEY"}, ConfigurationError, "LAB_KEY, which is not set"),
        ({"model": "gpt-5-mini"}, ConfigurationError, "OPENAI_API_KEY, which is not set"),
        ({**LOCAL, "fallback_model": "bgi"}, ConfigurationError, "is not in the pool; did you mean 'big'"),
    ],
)
def test_what_is_missing_is_named(table: dict[str, Any], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind) as raised:
        made(**table)
    assert told in str(raised.value)


def test_it_is_a_policy_by_name() -> None:
    settings = Settings(router_llm=RouterLLMSettings(**LOCAL))
    assert isinstance(load_policy("tool-calling", POOL, settings), ToolCallingPolicy)
    with pytest.raises(ConfigurationError):
        load_policy("tool-calling", POOL)


def test_every_key_of_the_table_is_read(tmp_path: Path) -> None:
    file = tmp_path / "xrouter.toml"
    file.write_text(
        """
policy = "tool-calling"
[router_llm]
model = "qwen"
url = "http://127.0.0.1:8000/v1"
key_env = "LAB_KEY"
price = { input = "0.05", output = "0.10" }
context_window = 16384
max_tokens = 512
temperature = 0.3
timeout_s = 5
tool_mode = "text"
system_messages = "merged"
prompt = "brief"
call_arguments = ["temperature", "optimized_system_prompt"]
parallel_calls = false
max_calls = 2
max_concurrency = 9
max_response_chars = 300
instructions = "Ask big about law."
on_failure = "error"
fallback_model = "small"
params = { seed = 1 }
""",
        encoding="utf-8",
    )
    options = load_settings(file, env={}).router_llm
    unset = RouterLLMSettings()
    names = list(RouterLLMSettings.__dataclass_fields__)
    assert [name for name in names if getattr(options, name) == getattr(unset, name)] == []
    assert options.call_arguments == CALL_ARGUMENTS
    policy = tool_calling_policy(load_settings(file, env={}), POOL, {"LAB_KEY": "sk"})
    assert policy.options.instructions == "Ask big about law."


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('url = "127.0.0.1:8000"', "must be a URL"),
        ('key_env = "sk-123-secret"', "not the key itself"),
        ('tool_mode = "hermes"', "one of native, text"),
        ("max_tokens = 0", "a whole number from 64, got 0"),
        ('call_arguments = "temperature"', "a list of optimized_system_prompt and temperature"),
        ('call_arguments = ["top_p"]', "or [], got ['top_p']"),
        ('call_arguments = ["temperature", "temperature"]', "each once at most"),
        ("call_arguments = [[1]]", "each once at most"),
        ("params = { model = 'x' }", "which the policy sets itself"),
        ("modl = 'x'", "did you mean 'model'"),
    ],
)
def test_mistakes_in_the_table_are_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "xrouter.toml"
    file.write_text(f"[router_llm]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load_settings(file, env={})
    assert told in str(raised.value)
    assert "sk-123" not in str(raised.value)


def test_options_of_the_command_line_go_over_the_table() -> None:
    settings = Settings(router_llm=RouterLLMSettings(model="old", max_tokens=99))
    policy, changed = with_router(None, settings, "http://h/v1", "qwen", "KEY", "0.05/0.10")
    assert policy == "tool-calling"
    assert changed.router_llm == replace(
        settings.router_llm,
        url="http://h/v1",
        model="qwen",
        key_env="KEY",
        price={"input": "0.05", "output": "0.10"},
    )
    assert with_router("cheapest", settings, None, None, None, None) == ("cheapest", settings)
    for options in (("nonsense", None), ("http://h/v1", "cheapest")):
        with pytest.raises(ConfigurationError, match="--router"):
            with_router(options[1], settings, options[0], None, None, None)

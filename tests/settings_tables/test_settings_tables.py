"""The tables of xrouter.toml with files of their own: every field can be set, every mistake is named."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from xrouter.errors import ConfigurationError
from xrouter.settings import Settings, load_settings
from xrouter.settings_tables.cache import CacheSettings
from xrouter.settings_tables.guardrails import GuardrailSettings
from xrouter.settings_tables.observability import ObservabilitySettings
from xrouter.settings_tables.router_llm import RouterLLMSettings

README = Path(__file__).parents[2] / "README.md"


def load(text: str, tmp_path: Path) -> Settings:
    file = tmp_path / "xrouter.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, env={})


def test_all_of_it_is_off_by_default(tmp_path: Path) -> None:
    settings = load("", tmp_path)
    assert not settings.cache.on
    assert settings.observability.log == "off"
    assert settings.observability.store_prompts is None
    assert not settings.observability.capture_content
    assert settings.guardrails == GuardrailSettings()


def test_every_field_can_be_set(tmp_path: Path) -> None:
    wanted = {
        "cache": CacheSettings(
            True, True, True, "state", 60.0, 5, 1000, semantic_turns=2, embedding="a:b", threshold=0.9,
            shared_between_keys=True,
        ),
        "observability": ObservabilitySettings(
            False, "json", True, True, "a:b", Path("/tmp/p.jsonl"), 10, 2  # noqa: S108
        ),
        "guardrails": GuardrailSettings(("a:b", "c:d"), ("e:f",), "pass", 1.5),
    }  # fmt: skip
    text = ""
    for name, table in wanted.items():
        text += f"[{name}]\n"
        for field in fields(table):
            value = getattr(table, field.name)
            assert value != field.default, field.name
            text += f"{field.name} = {_toml(value)}\n"
    settings = load(text, tmp_path)
    assert {name: getattr(settings, name) for name in wanted} == wanted


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, (int, float)) else f'"{value}"'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[cache]\nexact = 1", "cache.exact"),
        ("[cache]\nttl_s = 0", "cache.ttl_s"),
        ("[cache]\nthreshold = 1.5", "cache.threshold"),
        ('[cache]\nstore = "disk"', "cache.store"),
        ("[cache]\nmax_entry = 3", "cache.max_entry"),
        ("cache = true", "cache"),
        ('[observability]\nlog = "xml"', "observability.log"),
        ("[observability]\nstore_prompts = true", "observability.store_prompts"),
        ("[observability]\nstore_files = 0", "observability.store_files"),
        ('[guardrails]\nbefore = "a:b"', "guardrails.before"),
        ("[guardrails]\ntimeout_s = 0", "guardrails.timeout_s"),
        ('[guardrails]\non_error = "ignore"', "guardrails.on_error"),
    ],
)
def test_mistakes_are_named(text: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text, tmp_path)
    assert caught.value.param == key
    assert key in str(caught.value)


TABLES = {
    CacheSettings: "cache",
    ObservabilitySettings: "observability",
    GuardrailSettings: "guardrails",
    RouterLLMSettings: "router_llm",
}


@pytest.mark.parametrize("table", TABLES)
def test_the_readme_shows_every_field(table: type) -> None:
    name = TABLES[table]
    shown = README.read_text().split(f"\n[{name}] ")[1].split("\n\n")[0]
    assert set(re.findall(r"^(?:# )?(\w+) = ", shown, re.MULTILINE)) == {f.name for f in fields(table)}

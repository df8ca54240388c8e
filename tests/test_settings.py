from __future__ import annotations

from pathlib import Path

import pytest

from xrouter.errors import ConfigurationError
from xrouter.settings import Endpoint, Settings, load_settings


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "xrouter.toml"
    file.write_text(text)
    return load_settings(file, env or {})


def test_defaults_without_any_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings(env={"XDG_DATA_HOME": str(tmp_path)})
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.pool is None
    assert settings.policy is None
    assert settings.ledger == tmp_path / "xrouter" / "ledger.sqlite"
    assert settings.presets == {"quality": 0.01, "balanced": 0.1, "economy": 1.0}
    assert settings.max_body_bytes == 10 * 1024 * 1024
    assert settings.file is None


def test_reads_every_kind_of_key(tmp_path):
    settings = load(
        tmp_path,
        """
        port = 9000
        pool = ["a", "b"]
        ledger = "~/books.sqlite"
        call_timeout_s = 30
        default_preset = "mine"
        [presets]
        mine = 1
        [endpoints.box]
        base_url = "http://127.0.0.1:11434/v1"
        headers = { x-team = "blue" }
        [models.a]
        provider = "box"
        """,
    )
    assert settings.port == 9000
    assert settings.pool == ("a", "b")
    assert settings.ledger == Path.home() / "books.sqlite"
    assert settings.call_timeout_s == 30.0
    assert settings.presets["mine"] == 1.0
    assert settings.presets["economy"] == 1.0
    assert settings.endpoints == {"box": Endpoint("http://127.0.0.1:11434/v1", headers={"x-team": "blue"})}
    assert settings.models == {"a": {"provider": "box"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ["xrouter.toml", "prot", "1", "did you mean 'port'"]),
        ("port = '80'", ["port", "'80'"]),
        ("port = true", ["port", "True"]),
        ("port = 70000", ["port", "70000", "65535"]),
        ("pool = []", ["pool"]),
        ("pool = [1]", ["pool"]),
        ("call_timeout_s = 0", ["call_timeout_s", "above 0"]),
        ("request_timeout_s = inf", ["request_timeout_s"]),
        ("max_turns = 0", ["max_turns"]),
        ("presets = 3", ["presets", "table"]),
        ("[presets]\nquality = -1", ["presets.quality", "-1"]),
        ("default_preset = 'econmy'", ["default_preset", "econmy", "did you mean 'economy'"]),
        ("[endpoints.x]\nbase_ulr = 'http://h'", ["endpoints.x.base_ulr", "base_url"]),
        ("[endpoints.x]\nkind = 'openai'", ["endpoints.x.base_url", "URL"]),
        ("[endpoints.x]\nbase_url = 'ftp://h'", ["endpoints.x.base_url", "ftp://h"]),
        ("[endpoints.x]\nkind = 'grpc'", ["endpoints.x.kind", "grpc", "litellm"]),
        ("models = 3", ["models"]),
        ("port = ", ["not valid TOML"]),
    ],
)
def test_a_mistake_names_file_key_and_value(tmp_path, text, words):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    for word in ["xrouter.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("line", ["api_key = 'sk-secret'", "key_env = 'sk-secret'"])
def test_a_key_in_the_wrong_place_is_not_shown(tmp_path, line):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f"[endpoints.x]\nbase_url = 'http://h'\n{line}")
    assert "sk-secret" not in str(caught.value)


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load_settings(tmp_path / "absent.toml", {})
    with pytest.raises(ConfigurationError, match="XROUTER_CONFIG"):
        load_settings(env={"XROUTER_CONFIG": str(tmp_path / "absent.toml")})


def test_the_environment_overrides_the_file(tmp_path):
    env = {"XROUTER_HOST": "::1", "XROUTER_PORT": "1", "XROUTER_POLICY": "knn", "XROUTER_LEDGER": "/l.sqlite"}
    settings = load(tmp_path, "port = 2\nhost = 'h'", env)
    assert (settings.host, settings.port, settings.policy, settings.ledger) == (
        "::1",
        1,
        "knn",
        Path("/l.sqlite"),
    )


@pytest.mark.parametrize("port", ["eighty", "-1", "70000"])
def test_a_bad_port_in_the_environment(port):
    with pytest.raises(ConfigurationError, match="XROUTER_"):
        load_settings(env={"XROUTER_PORT": port, "XROUTER_CONFIG": ""})


def test_config_by_environment_and_by_working_folder(tmp_path, monkeypatch):
    (tmp_path / "xrouter.toml").write_text("port = 1234")
    assert load_settings(env={"XROUTER_CONFIG": str(tmp_path / "xrouter.toml")}).port == 1234
    monkeypatch.chdir(tmp_path)
    assert load_settings(env={}).port == 1234


def test_the_upstream_table_and_fallbacks(tmp_path):
    text = "[upstream]\ntransport = 'native'\ncooldown_s = 0\n[fallbacks]\na = ['b', 'c']"
    settings = load(tmp_path, text)
    assert (settings.upstream.transport, settings.upstream.cooldown_s) == ("native", 0.0)
    assert settings.fallbacks == {"a": ("b", "c")}
    for wrong, words in (
        ("[upstream]\ntransport = 'httpx'", "one of aiohttp, native"),
        ("[upstream]\nbreaker_failures = 0", "upstream.breaker_failures"),
        ("[fallbacks]\na = 'b'", "fallbacks.a must be a non-empty list"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            load(tmp_path, wrong)

from __future__ import annotations

import pytest

from xrouter.errors import ConfigurationError, KeyRefusedError, NotAllowedError
from xrouter.gateway.auth import admin_key, check_admin, check_binding, is_loopback, keys_are_required
from xrouter.settings_tables.access import AccessSettings

ACCESS = AccessSettings()
KEY = "an-admin-key-of-24-chars"

LOOPBACK = ["127.0.0.1", "127.3.2.1", "::1", "localhost", "LOCALHOST"]
REACHABLE = [
    "0.0.0.0",
    "::",
    "",
    "10.0.0.1",
    "192.168.1.2",
    "example.com",
    "localhost.example.com",
    "127.0.0.1.nip.io",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_no_admin_key_is_needed_and_that_is_said(host: str) -> None:
    assert is_loopback(host)
    said = check_binding(host, ACCESS, None)
    assert said is not None
    assert "XROUTER_ADMIN_KEY" in said
    assert check_binding(host, ACCESS, KEY) is None
    assert not keys_are_required(host, ACCESS)
    assert keys_are_required(host, AccessSettings(require_keys=True))


@pytest.mark.parametrize("host", REACHABLE)
def test_elsewhere_it_is(host: str) -> None:
    with pytest.raises(ConfigurationError, match="set MY_ADMIN_KEY") as refused:
        check_binding(host, AccessSettings(admin_key_env="MY_ADMIN_KEY"), None)
    assert repr(host) in str(refused.value)
    assert check_binding(host, ACCESS, KEY) is None
    assert keys_are_required(host, ACCESS)
    assert not keys_are_required(host, AccessSettings(require_keys=False))


def test_the_admin_key_comes_from_the_variable_that_the_settings_name() -> None:
    assert admin_key(ACCESS, {}) is None
    assert admin_key(ACCESS, {"XROUTER_ADMIN_KEY": "  "}) is None
    assert admin_key(ACCESS, {"XROUTER_ADMIN_KEY": f" {KEY}\n"}) == KEY
    assert admin_key(AccessSettings(admin_key_env="MINE"), {"MINE": KEY}) == KEY


@pytest.mark.parametrize(
    "key", ["short", "fifteen-chars-x", "schlüssel-mit-umlauten", "a key with a \x07 in it"]
)
def test_an_admin_key_that_is_none_is_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="XROUTER_ADMIN_KEY") as refused:
        admin_key(ACCESS, {"XROUTER_ADMIN_KEY": key})
    assert key not in str(refused.value)


def test_the_administrator() -> None:
    check_admin(KEY, KEY, ACCESS)
    for shown in (None, "", KEY[:-1], KEY + "x", "xr-" + "a" * 43, "\udcff\xfc"):
        with pytest.raises(KeyRefusedError) as refused:
            check_admin(shown, KEY, ACCESS)
        assert KEY not in str(refused.value)
    for shown in (None, KEY):
        with pytest.raises(NotAllowedError, match="XROUTER_ADMIN_KEY"):
            check_admin(shown, None, ACCESS)

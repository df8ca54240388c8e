"""Who is the administrator, where the gateway may listen, and whether a key is needed there."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from hmac import compare_digest

from ..errors import ConfigurationError, KeyRefusedError, NotAllowedError
from ..settings_tables.access import AccessSettings

ADMIN = "/admin"
"""What the path of every request to the administration begins with."""

MIN_ADMIN_KEY = 16
"""Characters. An admin key is checked at the speed of the network, so this many that nobody can guess are enough."""


def admin_key(access: AccessSettings, env: Mapping[str, str]) -> str | None:
    """The configured admin key, None if there is none. Raises ConfigurationError for one that is too short."""
    key = env.get(access.admin_key_env, "").strip()
    if key and (len(key) < MIN_ADMIN_KEY or not key.isascii() or not key.isprintable()):
        raise ConfigurationError(
            f"the admin key in {access.admin_key_env} must be {MIN_ADMIN_KEY} or more plain characters: set a longer"
            " one, such as the output of `openssl rand -hex 24`",
            param="access.admin_key_env",
        )
    return key or None


def check_admin(shown: str | None, key: str | None, access: AccessSettings) -> None:
    """Whether `shown`, the key that a request carries, is the admin key, compared in constant time.

    Raises NotAllowedError where no admin key is configured, KeyRefusedError.
    """
    if key is None:
        raise NotAllowedError(
            f"the admin API is off: start the gateway with an admin key in the environment ({access.admin_key_env})"
        )
    if shown is None:
        raise KeyRefusedError("the admin API needs the admin key: send 'Authorization: Bearer <admin key>'")
    if not compare_digest(_digest(shown), _digest(key)):
        raise KeyRefusedError("this is not the admin key; a virtual key opens /v1 only")


def check_origin(origin: bytes | None, host: bytes | None) -> None:
    """Raises NotAllowedError for a request that a browser sends on behalf of a page from elsewhere.

    Such a page cannot read the answer, but where no key is needed it could spend money on this machine's account.
    """
    if origin is not None and origin.partition(b"://")[2] != host:
        raise NotAllowedError("pages from elsewhere may not use this gateway: call it from a server")


def check_binding(host: str, access: AccessSettings, key: str | None) -> str | None:
    """What the operator should know of listening on `host`, None if nothing.

    Raises ConfigurationError for a host that others can reach while no admin key is configured.
    """
    if key is not None:
        return None
    if not is_loopback(host):
        raise ConfigurationError(
            f"host {host!r} can be reached from elsewhere, and no admin key is set: set {access.admin_key_env} (such as"
            " to the output of `openssl rand -hex 24`), or listen on 127.0.0.1",
            param="host",
        )
    return f"no admin key ({access.admin_key_env} is not set): listening on loopback only, /admin is off"


def keys_are_required(host: str, access: AccessSettings) -> bool:
    """Whether /v1/* needs a key before any was made: as the settings say, else wherever others can reach it."""
    return not is_loopback(host) if access.require_keys is None else access.require_keys


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Of names, only localhost is trusted to mean that."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

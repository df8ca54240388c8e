"""Where books and shared state are kept: a file or the URL of a server, shown without its password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from ..errors import ConfigurationError
from ..toml_reader import Reader

POSTGRES = ("postgresql://", "postgres://")
REDIS = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
SQLITE = "sqlite:"

_SCHEME = re.compile(r"\w[\w+.-]*://")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_USER_AND_PASSWORD = re.compile(r"(?<=://)(.*)@")
_SECRET_PARAMETER = re.compile(r"([?&][^=&#]*(?:password|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE)


def read_ledger(reader: Reader, key: str) -> Path | str:
    """A path, or the URL of a PostgreSQL database."""
    return ledger_place(reader.text(key), f"{reader.file}: {reader.dotted(key)}")


def ledger_place(text: str, named: str) -> Path | str:
    """The path of a SQLite file, or a PostgreSQL URL as it is. Raises ConfigurationError for any other URL."""
    if text.startswith(POSTGRES):
        return text
    if _SCHEME.match(text):
        raise ConfigurationError(
            f"{named} must be a path or a URL such as postgresql://user@host/database, got {shown(text)!r}",
            param="ledger",
        )
    return Path(text.removeprefix(SQLITE)).expanduser()


def read_state(reader: Reader, key: str) -> str:
    """`memory`, `sqlite:PATH` or the URL of a Redis or Valkey server."""
    text = reader.text(key)
    if text != "memory" and not text.startswith(REDIS) and not (text.startswith(SQLITE) and text != SQLITE):
        raise ConfigurationError(
            f'{reader.file}: {reader.dotted(key)} must be "memory", "sqlite:PATH" or a URL such as '
            f"redis://host:6379/0, got {shown(text)!r}",
            param=reader.dotted(key),
        )
    return text


def expanded(url: str, env: Mapping[str, str], *, param: str) -> str:
    """The URL with each ${NAME} replaced by that variable, percent-encoded.

    Raises ConfigurationError for a variable that is not set; `param` is the setting that it names.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise ConfigurationError(
                f"{param} = {shown(url)!r} needs the environment variable {match[1]}: set it", param=param
            )
        return quote(env[match[1]], safe="")

    return _VARIABLE.sub(value, url)


def shown(address: Path | str) -> str:
    """The address for messages: without a password."""
    url = _USER_AND_PASSWORD.sub(
        lambda match: f"{match[1].partition(':')[0]}@".removeprefix("@"), str(address)
    )
    return _SECRET_PARAMETER.sub(r"\1(not shown)", url)

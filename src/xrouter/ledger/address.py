"""Addresses of databases: the variables in them, and how they are shown without their passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from ..errors import ConfigurationError

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_USER_AND_PASSWORD = re.compile(r"(?<=://)(.*)@")
_SECRET_PARAMETER = re.compile(r"([?&][^=&#]*(?:password|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE)


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


def shown(url: str) -> str:
    """The URL for messages: without a password."""
    url = _USER_AND_PASSWORD.sub(lambda match: f"{match[1].partition(':')[0]}@".lstrip("@"), url)
    return _SECRET_PARAMETER.sub(r"\1(not shown)", url)

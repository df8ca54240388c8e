"""The addresses of an OpenAI-compatible endpoint, from its base URL."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigurationError


def addresses(name: str, base_url: str) -> tuple[str, str, str]:
    """The endpoint as errors show it (no path, no query), the URL of chat completions and that of embeddings.

    name: the provider's. Raises ConfigurationError for what is no base URL.
    """
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc:
        raise ConfigurationError(
            f"provider {name!r}: base_url must be an http(s) URL without a user or password in it, such as"
            " 'https://api.openai.com/v1'; a key goes into api_key",
            param="base_url",
        )
    base = parts.path.rstrip("/")
    chat, embeddings = (
        urlunsplit(parts._replace(path=base + path, fragment=""))
        for path in ("/chat/completions", "/embeddings")
    )
    return f"{parts.scheme}://{parts.netloc}", chat, embeddings

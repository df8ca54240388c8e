from __future__ import annotations

import pytest

from xrouter.errors import (
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.providers.upstream_errors import (
    MAX_EXCERPT_CHARS,
    error_of_object,
    error_of_status,
    excerpt,
    retry_after_s,
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "-1"}, 0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, now=100.0) == expected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":{"message":"too long","code":"context_length_exceeded"}}', "too long"),
        (b'{"error":"plain words"}', "plain words"),
        (b'{"message":"vllm style"}', "vllm style"),
        (b'{"detail":"fastapi style"}', "fastapi style"),
        (b'[{"error":{"message":"gemini style"}}]', "gemini style"),
        (b"<html>\n  not json</html>", "<html> not json</html>"),
        (b"", "HTTP 400"),
        (b"[]", "HTTP 400"),
        (b"\xff\xfe", "HTTP 400"),
    ],
)
def test_the_upstreams_words_are_quoted(body: bytes, said: str) -> None:
    error = error_of_status(400, {}, body, provider="p", model="m")
    assert type(error) is ProviderRequestError
    assert said in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "x"}, ProviderRateLimitError),
        ({"code": 503}, ProviderUnavailableError),
        ({"code": 401}, ProviderAuthError),
        ({"code": 408}, ProviderTimeoutError),
        ({"type": "invalid_request_error"}, ProviderRequestError),
        ({"code": "rate_limit_exceeded"}, ProviderRateLimitError),
        ({"type": "overloaded_error"}, ProviderUnavailableError),
        ({"code": 7}, ProviderResponseError),
        ({"code": True}, ProviderResponseError),
        ({}, ProviderResponseError),
        ("words", ProviderResponseError),
        (17, ProviderResponseError),
    ],
)
def test_error_objects(error: object, kind: type[ProviderError]) -> None:
    made = error_of_object(error, provider="p", model="m")
    assert type(made) is kind
    assert made.model == "m"


def test_an_excerpt_is_one_short_line() -> None:
    assert excerpt("a\n\tb  c") == "a b c"
    assert len(excerpt("x" * 10_000)) == MAX_EXCERPT_CHARS


@pytest.mark.parametrize("shown", ["sk-abcdefghijkl", "sk-a****ijkl", "sk-abc...kl", "sk-a…l"])
def test_secrets_are_replaced_even_at_the_cut(shown: str) -> None:
    secret = "sk-abcdefghijkl"
    for padding in (0, MAX_EXCERPT_CHARS - 8):
        said = excerpt("x" * padding + f" key {shown} is bad", [secret])
        assert "sk-a" not in said
        assert "jkl" not in said


def test_short_header_values_are_not_mistaken_for_secrets() -> None:
    assert excerpt("version 1 of 10", ["1", ""]) == "version 1 of 10"

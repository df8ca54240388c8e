"""Times as the report takes them."""

from __future__ import annotations

import pytest

from xrouter.errors import RequestError
from xrouter.ledger.moments import moment

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", NOW - 5400),
        ("24h", NOW - 86400),
        ("1.5d", NOW - 129600),
        ("2w", NOW - 1209600),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:10", 10.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
    ],
)
def test_moments(text: str, expected: float) -> None:
    assert moment(text, NOW, "--since") == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "-3d", "2026-13-01", "5y"])
def test_no_moment(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        moment(text, NOW, "--since")
    assert "--since" in caught.value.message

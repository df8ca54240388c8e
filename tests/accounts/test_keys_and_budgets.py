from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from accounts_kit import NOW, budget

from xrouter.accounts.budget import PERIODS, Budget, renews_at, scope_of
from xrouter.accounts.key import VirtualKey, allowed, hash_of, is_secret, new_id, new_secret, shown
from xrouter.errors import RequestError


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_secrets_have_their_form_and_never_repeat() -> None:
    secrets = {new_secret() for _ in range(500)}
    assert len(secrets) == 500
    assert all(is_secret(secret) and len(secret) == 46 for secret in secrets)
    assert len({new_id() for _ in range(500)}) == 500


@pytest.mark.parametrize("digit", "09AZaz")
def test_every_digit_of_a_secret_is_used(digit: str) -> None:
    assert any(digit in new_secret()[4:] for _ in range(500))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xr-",
        "sk-" + "a" * 43,
        "xr-" + "a" * 42,
        "xr-" + "a" * 44,
        "xr-" + "é" * 43,
        "xr-" + "a" * 42 + "\n",
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert not is_secret(text)


def test_what_is_shown_of_a_secret_gives_it_not_away() -> None:
    secret = new_secret()
    assert secret.startswith(shown(secret).removesuffix("..."))
    assert len(shown(secret)) == 11
    assert secret not in repr(VirtualKey("k", "n", hash_of(secret), shown(secret), NOW))


def test_when_a_key_is_refused() -> None:
    now_hash, old_hash = hash_of("xr-now"), hash_of("xr-old")
    key = VirtualKey("k", "n", now_hash, "xr-n...", NOW)
    assert key.refusal(now_hash, NOW) is None
    assert key.refusal(old_hash, NOW) == "is unknown"
    rotated = replace(key, previous_hash=old_hash, previous_until=NOW + 10)
    assert rotated.refusal(now_hash, NOW + 99) is None
    assert rotated.refusal(old_hash, NOW + 9) is None
    assert rotated.refusal(old_hash, NOW + 10) == "was replaced by a newer one"
    ending = replace(key, expires_at=NOW + 5)
    assert ending.refusal(now_hash, NOW + 4.9) is None
    assert ending.refusal(now_hash, NOW + 5) == "has expired"
    assert replace(rotated, revoked=NOW).refusal(old_hash, NOW + 1) == "is revoked"


@pytest.mark.parametrize(
    ("patterns", "good"),
    [
        (None, ("gpt-5", "gpt-5-mini", "qwen")),
        (("gpt-*",), ("gpt-5", "gpt-5-mini")),
        (("gpt-5",), ("gpt-5",)),
        (("qwen", "gpt-?"), ("gpt-5", "qwen")),
        (("GPT-*",), ()),
        (("*",), ("gpt-5", "gpt-5-mini", "qwen")),
    ],
)
def test_models_by_name_and_glob(patterns: tuple[str, ...] | None, good: tuple[str, ...]) -> None:
    assert allowed(patterns, ("gpt-5", "gpt-5-mini", "qwen")) == good


@pytest.mark.parametrize(
    ("period", "when", "label", "renewal"),
    [
        ("day", "2026-11-22T23:59:59", "2026-11-22", "2026-11-23"),
        ("day", "2024-02-29T00:00:00", "2024-02-29", "2024-03-01"),
        ("week", "2026-11-22T12:00:00", "2026-W47", "2026-11-23"),
        ("week", "2027-01-03T12:00:00", "2026-W53", "2027-01-04"),
        ("week", "2024-12-30T00:00:00", "2025-W01", "2025-01-06"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2027-01-01"),
        ("month", "2026-01-31T00:00:00", "2026-01", "2026-02-01"),
    ],
)
def test_periods_are_those_of_utc(period: str, when: str, label: str, renewal: str) -> None:
    assert scope_of("key:ab", period, at(when)) == f"key:ab/{label}"  # type: ignore[arg-type]
    assert renews_at(period, at(when)) == datetime.fromisoformat(renewal).replace(tzinfo=UTC)  # type: ignore[arg-type]


def test_a_total_never_renews() -> None:
    assert scope_of("team:t", "total", 0) == scope_of("team:t", "total", NOW) == "team:t/total"
    assert renews_at("total", NOW) is None


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_a_scope_ends_when_its_budget_renews(period: str) -> None:
    for start in range(0, 800 * 86400, 86400 // 2):
        renewal = renews_at(period, start)  # type: ignore[arg-type]
        assert renewal is not None
        end = renewal.timestamp()
        assert start < end
        assert scope_of("k", period, start) == scope_of("k", period, end - 0.5)  # type: ignore[arg-type]
        assert scope_of("k", period, start) != scope_of("k", period, end)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity", "1000000001"])
def test_what_is_no_budget(amount: str) -> None:
    with pytest.raises(RequestError, match="amount_usd"):
        budget(amount)


def test_a_period_that_is_none() -> None:
    with pytest.raises(RequestError, match="day, week, month, total, got 'year'"):
        Budget(Decimal(1), "year")  # type: ignore[arg-type]
    assert PERIODS == ("day", "week", "month", "total")

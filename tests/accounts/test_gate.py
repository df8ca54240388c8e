"""Who passes the gate, and who does not, and why."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from accounts_kit import MODELS, NOW, Clock, FailingState, account, budget, make_gate
from ledger_kit import episode_entry

from xrouter.accounts.admission import Admission
from xrouter.accounts.gate import Gate
from xrouter.accounts.manage import change_key, create_key, revoke_key, rotate_key
from xrouter.accounts.memory import MemoryAccounts
from xrouter.errors import (
    AccountsError,
    KeyRefusedError,
    NotAllowedError,
    QuotaExceededError,
    RateLimitedError,
    StateError,
)
from xrouter.ledger.memory import MemoryLedger
from xrouter.settings_tables.access import Limits, WhenStateIsDown


async def key_in(store: MemoryAccounts, **fields: Any) -> str:
    return (await create_key(store, "a key", NOW, **fields)).secret


async def admit(
    gate: Gate, secret: str | None, *, worst: str = "1", tokens: int = 100, now: float = NOW, **more: Any
) -> Admission:
    caller = await gate.identify(secret, now)
    return await gate.admit(
        caller, MODELS, worst_cost_usd=Decimal(worst), prompt_tokens=tokens, now=now, **more
    )


async def book(ledger: MemoryLedger, admission: Admission, cost: str, *, tokens: int = 100) -> Decimal | None:
    entry = episode_entry(f"e{len(ledger.episodes)}", cost=cost)
    spent = await ledger.book(entry, [], admission.scopes)
    await admission.settle(spent, tokens)
    return admission.left_usd(spent)


class TestKeys:
    async def test_a_good_key(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, user="ada", team="search", tags=("app",))
        admission = await admit(make_gate(store), secret, tags=("blue", "app"))
        caller = admission.caller
        assert (caller.user, caller.team, admission.tags) == ("ada", "search", ("app", "blue"))
        assert (admission.allowed_models, admission.max_cost_usd, admission.scopes) == (MODELS, None, ())

    @pytest.mark.parametrize(
        ("secret", "words"),
        [(None, "is needed"), ("sk-other", "none of ours"), ("xr-" + "a" * 43, "unknown")],
    )
    async def test_a_bad_key(self, secret: str | None, words: str) -> None:
        store = MemoryAccounts()
        await key_in(store)
        with pytest.raises(KeyRefusedError, match=words) as refused:
            await make_gate(store).identify(secret)
        assert secret is None or secret not in str(refused.value)

    async def test_a_revoked_key_stops_once_the_memory_of_it_is_old(self) -> None:
        store, clock = MemoryAccounts(), Clock()
        made = await create_key(store, "a key", NOW)
        gate = make_gate(store, clock=clock, key_cache_s=5.0)
        await admit(gate, made.secret)
        await revoke_key(store, made.key.id, NOW)
        clock.now += 4.9
        await admit(gate, made.secret)
        clock.now += 0.2
        with pytest.raises(KeyRefusedError, match="is revoked"):
            await admit(gate, made.secret)

    async def test_a_key_revoked_in_this_process_stops_at_once(self) -> None:
        store = MemoryAccounts()
        made = await create_key(store, "a key", NOW)
        gate = make_gate(store)
        await admit(gate, made.secret)
        await revoke_key(store, made.key.id, NOW)
        gate.forget()
        with pytest.raises(KeyRefusedError, match="is revoked"):
            await admit(gate, made.secret)

    async def test_a_key_expires_while_it_is_remembered(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, expires_at=NOW + 60)
        gate = make_gate(store)
        await admit(gate, secret, now=NOW + 59)
        with pytest.raises(KeyRefusedError, match="has expired"):
            await admit(gate, secret, now=NOW + 60)

    async def test_the_old_secret_has_its_grace(self) -> None:
        store = MemoryAccounts()
        made = await create_key(store, "a key", NOW)
        rotated = await rotate_key(store, made.key.id, NOW, grace_s=30)
        gate = make_gate(store)
        for secret in (made.secret, rotated.secret):
            assert (await admit(gate, secret, now=NOW + 29)).caller.key_id == made.key.id
        with pytest.raises(KeyRefusedError, match="replaced"):
            await admit(gate, made.secret, now=NOW + 30)
        await admit(gate, rotated.secret, now=NOW + 30)

    async def test_one_look_into_the_store_serves_all_who_wait(self) -> None:
        looks = 0

        class Counting(MemoryAccounts):
            async def key_by_hash(self, secret_hash: str) -> Any:
                nonlocal looks
                looks += 1
                await asyncio.sleep(0.01)
                return await super().key_by_hash(secret_hash)

        store = Counting()
        gate, secret = make_gate(store), await key_in(store)
        await asyncio.gather(*(gate.identify(secret, NOW) for _ in range(20)))
        assert looks == 1

    async def test_a_look_up_that_was_under_way_when_keys_changed_is_not_remembered(self) -> None:
        store, found, go_on = MemoryAccounts(), asyncio.Event(), asyncio.Event()
        made = await create_key(store, "a key", NOW)

        class Slow(MemoryAccounts):
            async def key_by_hash(self, secret_hash: str) -> Any:
                key = await store.key_by_hash(secret_hash)
                found.set()
                await go_on.wait()
                return key

        gate = make_gate(Slow())
        early = asyncio.create_task(gate.identify(made.secret, NOW))
        await found.wait()
        await revoke_key(store, made.key.id, NOW)
        gate.forget()
        go_on.set()
        await early
        with pytest.raises(KeyRefusedError, match="is revoked"):
            await gate.identify(made.secret, NOW)

    async def test_a_store_that_cannot_be_read_closes_the_gate(self) -> None:
        class Broken(MemoryAccounts):
            async def key_by_hash(self, secret_hash: str) -> Any:
                raise AccountsError("the disk is gone")

        with pytest.raises(AccountsError, match="the disk is gone"):
            await make_gate(Broken()).identify("xr-" + "a" * 43)


class TestWithoutKeys:
    async def test_open_until_the_first_key_is_made_and_never_again(self) -> None:
        store, clock = MemoryAccounts(), Clock()
        gate = make_gate(store, require_keys=False, clock=clock)
        assert (await admit(gate, "not-needed")).caller.key_id is None
        made = await create_key(store, "the first", NOW)
        clock.now += 5
        with pytest.raises(KeyRefusedError):
            await admit(gate, "not-needed")
        with pytest.raises(KeyRefusedError, match="is needed"):
            await admit(gate, None)
        await admit(gate, made.secret)
        await revoke_key(store, made.key.id, NOW)
        gate.forget()
        with pytest.raises(KeyRefusedError):
            await admit(gate, None)

    async def test_default_limits_bind_all_of_them_together(self) -> None:
        gate = make_gate(require_keys=False, limits=Limits(requests_per_minute=2))
        await admit(gate, None)
        await admit(gate, "anything")
        with pytest.raises(RateLimitedError, match="requests without a key may use 2 requests a minute"):
            await admit(gate, None)


class TestModels:
    async def test_only_models_that_the_key_allows(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, models=("sm*",))
        assert (await admit(make_gate(store), secret)).allowed_models == ("small",)

    @pytest.mark.parametrize(
        ("asked", "words"), [(("big",), "'big'; it is good for sm"), (MODELS[1:] * 2, "any model")]
    )
    async def test_none_of_them(self, asked: tuple[str, ...], words: str) -> None:
        store = MemoryAccounts()
        gate, secret = make_gate(store), await key_in(store, models=("sm*",))
        caller = await gate.identify(secret, NOW)
        with pytest.raises(NotAllowedError, match=words):
            await gate.admit(caller, asked, worst_cost_usd=Decimal(1), prompt_tokens=1)


class TestRates:
    async def test_requests_a_minute(self) -> None:
        store, clock = MemoryAccounts(), Clock()
        secret = await key_in(store, limits=Limits(requests_per_minute=2))
        gate = make_gate(store, clock=clock, key_cache_s=1000)
        for _ in range(2):
            await (await admit(gate, secret)).settle((), 100)
        with pytest.raises(
            RateLimitedError, match=r"may use 2 requests a minute: try again in 30\.0 s"
        ) as refused:
            await admit(gate, secret)
        assert refused.value.retry_after_s == pytest.approx(30)
        clock.now += 30.1
        await admit(gate, secret)

    async def test_tokens_are_counted_as_they_were_used(self) -> None:
        store, clock = MemoryAccounts(), Clock()
        secret = await key_in(store, limits=Limits(tokens_per_minute=600))
        gate = make_gate(store, clock=clock, key_cache_s=1000)
        await (await admit(gate, secret, tokens=100)).settle((), 900)  # 300 more than there were
        with pytest.raises(RateLimitedError, match="600 tokens a minute") as refused:
            await admit(gate, secret, tokens=10)
        assert refused.value.retry_after_s == pytest.approx(31)
        clock.now += 31.1
        await (await admit(gate, secret, tokens=10)).release()
        await admit(gate, secret, tokens=10)

    async def test_a_request_larger_than_a_minute_is_served_and_owes(self) -> None:
        store, clock = MemoryAccounts(), Clock()
        secret = await key_in(store, limits=Limits(tokens_per_minute=600))
        gate = make_gate(store, clock=clock, key_cache_s=1000)
        await (await admit(gate, secret, tokens=6000)).settle((), 6000)
        with pytest.raises(RateLimitedError) as refused:
            await admit(gate, secret, tokens=1)
        assert refused.value.retry_after_s == pytest.approx(540.1)

    async def test_requests_at_the_same_time(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, limits=Limits(parallel_requests=2))
        gate = make_gate(store)
        first = await admit(gate, secret)
        await admit(gate, secret)
        with pytest.raises(RateLimitedError, match="2 requests under way") as refused:
            await admit(gate, secret)
        assert refused.value.retry_after_s > 0
        await first.settle((), 1)
        await first.settle((), 1)  # a second time changes nothing
        await admit(gate, secret)
        with pytest.raises(RateLimitedError, match="2 requests under way"):
            await admit(gate, secret)

    async def test_a_team_shares_its_limits(self) -> None:
        store = MemoryAccounts()
        await store.put_account(account("team", "search", limits=Limits(requests_per_minute=1)))
        one, other = await key_in(store, team="search"), await key_in(store, team="search")
        gate = make_gate(store)
        await admit(gate, one)
        with pytest.raises(RateLimitedError, match="team 'search' may use 1 requests a minute"):
            await admit(gate, other)

    async def test_own_limits_stand_above_the_default(self) -> None:
        store = MemoryAccounts()
        gate = make_gate(store, limits=Limits(requests_per_minute=1, parallel_requests=1))
        own = await key_in(store, limits=Limits(requests_per_minute=5, parallel_requests=5))
        for _ in range(5):
            await admit(gate, own)
        default = await key_in(store)
        await (await admit(gate, default)).settle((), 1)
        with pytest.raises(RateLimitedError):
            await admit(gate, default)


class TestBudgets:
    async def test_the_worst_case_is_set_aside_and_what_was_spent_is_charged(self) -> None:
        store, ledger = MemoryAccounts(), MemoryLedger()
        secret = await key_in(store, budgets=(budget("3"), budget("10", "total")))
        gate = make_gate(store, ledger=ledger)
        admission = await admit(gate, secret, worst="2")
        assert admission.max_cost_usd == 2
        month, total = admission.scopes
        assert month == f"key:{admission.caller.key_id}/2026-11"
        assert total == f"key:{admission.caller.key_id}/total"
        with pytest.raises(QuotaExceededError, match="renews at 2026-12-01T00:00:00"):
            await admit(gate, secret, worst="2")
        assert await book(ledger, admission, "0.5") == Decimal("2.5")
        again = await admit(gate, secret, worst="2.5")
        with pytest.raises(QuotaExceededError) as refused:
            await admit(gate, secret, worst="0.000000000001")
        assert f"{month}" in str(refused.value)
        assert "3 USD a month" in str(refused.value)
        assert "0.5 USD are spent" in str(refused.value)
        await again.release()
        await admit(gate, secret, worst="2.5")

    async def test_a_new_period_has_a_new_budget(self) -> None:
        store, ledger = MemoryAccounts(), MemoryLedger()
        secret = await key_in(store, budgets=(budget("1", "day"),))
        gate = make_gate(store, ledger=ledger)
        assert await book(ledger, await admit(gate, secret), "1") == 0
        with pytest.raises(QuotaExceededError, match="renews at 2026-11-19"):
            await admit(gate, secret, worst="0.1")
        await admit(gate, secret, now=NOW + 86400)

    async def test_every_account_of_a_request_must_have_room(self) -> None:
        store, ledger = MemoryAccounts(), MemoryLedger()
        await store.put_account(account("user", "ada", budget("5")))
        await store.put_account(account("team", "search", budget("2", "week")))
        await store.put_account(account("tag", "batch", budget("4", "total")))
        secret = await key_in(store, user="ada", team="search", budgets=(budget("9"),), tags=("night",))
        gate = make_gate(store, ledger=ledger)
        admission = await admit(gate, secret, tags=("batch", "other"))
        assert [scope.partition("/")[::2] for scope in admission.scopes][1:] == [
            ("user:ada", "2026-11"),
            ("team:search", "2026-W47"),
            ("tag:batch", "total"),
        ]
        with pytest.raises(QuotaExceededError, match="budget of team 'search', 2 USD a week"):
            await admit(gate, secret, worst="1.5")
        await book(ledger, admission, "1")
        totals = {total.scope: total.cost_usd for total in await ledger.spent(admission.scopes)}
        assert set(totals.values()) == {Decimal(1)}

    async def test_a_budget_never_spent_from_bounds_even_what_is_dearer_than_all_of_it(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, budgets=(budget("0"),))
        with pytest.raises(QuotaExceededError):
            await admit(make_gate(store), secret, worst="0.000000000001")

    async def test_amounts_finer_than_a_picodollar_err_on_the_safe_side(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, budgets=(budget("0.0000000000029"),))
        gate = make_gate(store)
        await admit(gate, secret, worst="0.0000000000011")
        with pytest.raises(QuotaExceededError):
            await admit(gate, secret, worst="0.0000000000001")

    async def test_a_refused_request_gives_its_tokens_back(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, budgets=(budget("1"),), limits=Limits(tokens_per_minute=100))
        gate = make_gate(store)
        for _ in range(3):
            with pytest.raises(QuotaExceededError):
                await admit(gate, secret, worst="2", tokens=100)
        await admit(gate, secret, worst="1", tokens=100)

    async def test_what_nobody_settles_lapses(self) -> None:
        store, clock = MemoryAccounts(), Clock()
        secret = await key_in(store, budgets=(budget("1"),))
        gate = make_gate(store, clock=clock)
        await admit(gate, secret)
        clock.now += 659
        with pytest.raises(QuotaExceededError):
            await admit(gate, secret)
        clock.now += 2
        await admit(gate, secret)

    async def test_what_another_gateway_booked_counts(self) -> None:
        """It has settled, so the shared state knows; the memory of this gateway is old."""
        store, ledger, clock = MemoryAccounts(), MemoryLedger(), Clock()
        secret = await key_in(store, budgets=(budget("10"),))
        one = make_gate(store, ledger=ledger, clock=clock)
        other = make_gate(store, ledger=ledger, state=one._state, clock=clock)
        await (await admit(one, secret, worst="1")).release()
        await book(ledger, await admit(other, secret, worst="9.5"), "9.5")
        with pytest.raises(QuotaExceededError):
            await admit(one, secret, worst="1")

    async def test_what_another_gateway_booked_and_never_settled_counts_when_its_reservation_has_lapsed(
        self,
    ) -> None:
        store, ledger, clock = MemoryAccounts(), MemoryLedger(), Clock()
        secret = await key_in(store, budgets=(budget("10"),))
        one = make_gate(store, ledger=ledger, clock=clock)
        other = make_gate(store, ledger=ledger, state=one._state, clock=clock)
        dead = await admit(other, secret, worst="9.5")
        await ledger.book(episode_entry("e"), [], ())
        await ledger.book(replace(episode_entry("dead"), cost_usd=Decimal("9.5")), [], dead.scopes)
        for _ in range(200):
            with pytest.raises(QuotaExceededError):
                await admit(one, secret, worst="1")
            clock.now += 4


class TestShrinking:
    async def test_a_request_is_capped_at_what_is_left(self) -> None:
        store, ledger = MemoryAccounts(), MemoryLedger()
        secret = await key_in(store, budgets=(budget("1"), budget("3", "total")))
        gate = make_gate(store, ledger=ledger, shrink_to_budget=True)
        await book(ledger, await admit(gate, secret, worst="0.75"), "0.75")
        admission = await admit(gate, secret, worst="0.5")
        assert admission.max_cost_usd == Decimal("0.25")
        with pytest.raises(QuotaExceededError):
            await admit(gate, secret, worst="0.5")

    async def test_what_others_have_set_aside_is_left_to_them(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, budgets=(budget("1"),))
        gate = make_gate(store, shrink_to_budget=True)
        await admit(gate, secret, worst="0.7")
        admission = await admit(gate, secret, worst="0.8")
        assert admission.max_cost_usd == Decimal("0.2")

    async def test_a_cap_too_low_to_be_of_use_is_a_refusal(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, budgets=(budget("1"),))
        gate = make_gate(store, shrink_to_budget=True)
        with pytest.raises(QuotaExceededError):
            await admit(gate, secret, worst="2", least_cost_usd=Decimal("1.1"))
        assert (await admit(gate, secret, worst="2", least_cost_usd=Decimal("0.9"))).max_cost_usd == 1


class TestStateDown:
    async def test_limits_are_open_by_default(self, caplog: pytest.LogCaptureFixture) -> None:
        store, state = MemoryAccounts(), FailingState()
        secret = await key_in(store, limits=Limits(1, 1, 1))
        gate = make_gate(store, state=state)
        for _ in range(3):
            await (await admit(gate, secret)).settle((), 5)
        assert "not enforced" in caplog.text
        assert len(caplog.records) == 1, "said once, not with every request"

    async def test_limits_can_be_closed(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, limits=Limits(parallel_requests=1))
        gate = make_gate(store, state=FailingState(), when_state_is_down=WhenStateIsDown(limits="closed"))
        with pytest.raises(StateError):
            await admit(gate, secret)

    async def test_budgets_are_closed_by_default(self) -> None:
        store = MemoryAccounts()
        secret = await key_in(store, budgets=(budget("1"),))
        with pytest.raises(StateError):
            await admit(make_gate(store, state=FailingState()), secret)

    async def test_open_budgets_count_what_is_in_the_books(self) -> None:
        store, ledger, state = MemoryAccounts(), MemoryLedger(), FailingState()
        secret = await key_in(store, budgets=(budget("1"),))
        gate = make_gate(
            store, ledger=ledger, state=state, when_state_is_down=WhenStateIsDown(budgets="open")
        )
        await book(ledger, await admit(gate, secret, worst="0.6"), "0.6")
        with pytest.raises(QuotaExceededError):
            await admit(gate, secret, worst="0.6")
        state.down = False
        with pytest.raises(QuotaExceededError):
            await admit(gate, secret, worst="0.6")

    async def test_a_key_without_budgets_and_limits_needs_no_state(self) -> None:
        store = MemoryAccounts()
        closed = WhenStateIsDown("closed", "closed")
        gate = make_gate(store, state=FailingState(), when_state_is_down=closed)
        await (await admit(gate, await key_in(store))).settle((), 5)

    async def test_state_that_goes_while_a_request_runs_fails_nobody(self) -> None:
        store, ledger, state = MemoryAccounts(), MemoryLedger(), FailingState()
        state.down = False
        secret = await key_in(store, budgets=(budget("1"),))
        gate = make_gate(store, ledger=ledger, state=state)
        admission = await admit(gate, secret, worst="0.6")
        state.down = True
        assert await book(ledger, admission, "0.1") == Decimal("0.9")


async def test_a_change_of_a_key_is_seen(tmp_path: Any) -> None:
    store = MemoryAccounts()
    made = await create_key(store, "a key", NOW)
    gate = make_gate(store)
    await admit(gate, made.secret)
    await change_key(store, made.key.id, NOW, budgets=(budget("0"),))
    gate.forget()
    with pytest.raises(QuotaExceededError):
        await admit(gate, made.secret)

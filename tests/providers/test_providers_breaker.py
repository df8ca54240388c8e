from __future__ import annotations

import pytest

from xrouter.providers.breaker import CircuitBreaker, Permit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, reset_s=10.0, clock=clock)


def enter(breaker: CircuitBreaker) -> Permit:
    permit = breaker.enter()
    assert permit is not None
    return permit


def open_it(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        breaker.fail(enter(breaker))
    assert breaker.state == "open"


def test_opens_after_so_many_failures_in_a_row(breaker: CircuitBreaker) -> None:
    breaker.fail(enter(breaker))
    breaker.fail(enter(breaker))
    assert breaker.state == "closed"
    breaker.fail(enter(breaker))
    assert breaker.state == "open"
    assert breaker.enter() is None


def test_a_success_starts_the_count_again(breaker: CircuitBreaker) -> None:
    breaker.fail(enter(breaker))
    breaker.fail(enter(breaker))
    breaker.succeed(enter(breaker))
    breaker.fail(enter(breaker))
    breaker.fail(enter(breaker))
    assert breaker.state == "closed"


def test_open_until_the_reset_time_then_one_probe(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 9.5
    assert breaker.enter() is None
    assert breaker.reopens_in_s == pytest.approx(0.5)
    clock.now += 0.5
    assert breaker.state == "half_open"
    enter(breaker)
    assert breaker.enter() is None


def test_a_good_probe_closes(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 10
    breaker.succeed(enter(breaker))
    assert breaker.state == "closed"
    assert enter(breaker)
    assert enter(breaker)


def test_a_bad_probe_opens_for_another_full_period(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 10
    breaker.fail(enter(breaker))
    assert breaker.state == "open"
    assert breaker.reopens_in_s == pytest.approx(10)


def test_a_released_probe_lets_the_next_one_try(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 10
    breaker.release(enter(breaker))
    assert breaker.state == "half_open"
    breaker.succeed(enter(breaker))
    assert breaker.state == "closed"


def test_results_of_calls_begun_before_the_circuit_opened_do_not_count(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    early, late = enter(breaker), enter(breaker)
    open_it(breaker)
    breaker.succeed(early)
    assert breaker.state == "open"
    clock.now += 10
    probe = enter(breaker)
    breaker.fail(late)
    breaker.release(late)
    assert breaker.state == "half_open"
    assert breaker.enter() is None
    breaker.succeed(probe)
    assert breaker.state == "closed"

"""A request unlike all of training: the answer is whole, and everything that is shown or booked of it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from learner_kit import fitted_policy
from synthetic import replaying_pool, synthetic_outcomes

from xrouter.answer import Answer
from xrouter.cli.ask import summary
from xrouter.gateway.reply import xrouter_object
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.policies.arrays import ServedPolicy
from xrouter.policies.baselines import Cheapest
from xrouter.router import Router
from xrouter.settings import Settings

KNOWN = synthetic_outcomes(seed=6, queries=60)
STRANGE = "zxqv wrtpk bnmlo"
ASKED = replace(KNOWN, recording=replace(KNOWN.recording, prompts=(STRANGE, *KNOWN.recording.prompts[1:])))


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    policy = ServedPolicy(fitted_policy(KNOWN))
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    with Router(policy, pool=replaying_pool(ASKED), ledger=ledger, settings=Settings()) as router:
        yield router


def booked(router: Router, answer: Answer) -> bool:
    ledger = router.ledger
    assert isinstance(ledger, SqliteLedger)
    entry, _ = ledger.entries(answer.episode.id)
    return entry.outside_training


def test_it_says_so_everywhere_and_is_not_degraded(router: Router) -> None:
    answer = router.answer(STRANGE)
    assert answer.outside_training
    assert answer.degraded is None
    assert xrouter_object(answer)["outside_training"] is True
    assert "unlike all that the policy was trained on" in summary(answer)
    assert booked(router, answer)


def test_a_question_like_those_of_training_does_not(router: Router) -> None:
    answer = router.answer(KNOWN.recording.prompts[7])
    assert not answer.outside_training
    assert xrouter_object(answer)["outside_training"] is False
    assert "trained" not in summary(answer)
    assert not booked(router, answer)


def test_a_policy_that_was_not_trained_never_says_so(tmp_path: Path) -> None:
    pool, ledger = replaying_pool(ASKED), SqliteLedger(tmp_path / "books.sqlite")
    with Router(ServedPolicy(Cheapest()), pool=pool, ledger=ledger, settings=Settings()) as router:
        assert not router.answer(STRANGE).outside_training

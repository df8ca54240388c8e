"""Near-duplicates with another meaning never match."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_duplicates import DIFFERENT, ONE_WORD_OF_MANY, OTHER_WORDS, SAME

from xrouter.caching.wording import may_mean_the_same, plain_words


@pytest.mark.parametrize(("one", "other"), SAME)
def test_manner_is_overlooked(one: str, other: str) -> None:
    assert plain_words(one) == plain_words(other)
    assert may_mean_the_same(one, other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT + ONE_WORD_OF_MANY + OTHER_WORDS)
def test_plain_words_tell_every_other_message_apart(one: str, other: str) -> None:
    assert plain_words(one) != plain_words(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_no_embedding_may_equate_what_differs_in_a_number_negation_name_or_opposite(
    one: str, other: str
) -> None:
    assert not may_mean_the_same(one, other)
    assert not may_mean_the_same(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER_WORDS)
def test_other_words_are_left_to_the_embedding(one: str, other: str) -> None:
    assert may_mean_the_same(one, other)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_another_number_is_another_question(a: int, b: int) -> None:
    one, other = f"How many days are {a} hours?", f"How many days are {b} hours?"
    assert (plain_words(one) == plain_words(other)) == (a == b)
    assert may_mean_the_same(one, other) == (a == b)


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_compared(one: str, other: str) -> None:
    assert plain_words(one) == plain_words(one)
    assert may_mean_the_same(one, one)
    assert may_mean_the_same(one, other) == may_mean_the_same(other, one)

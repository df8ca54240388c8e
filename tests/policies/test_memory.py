from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.policies import memory
from xrouter.policies.memory import ByPool, RememberedQueries
from xrouter.policies.states import Floats


class Counting:
    """Encodes a query as its length; `asked` keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, queries: Sequence[str]) -> Floats:
        self.asked.append(list(queries))
        return np.array([[float(len(query))] for query in queries])


def test_a_query_is_encoded_once() -> None:
    encode = Counting()
    remembered = RememberedQueries(encode)
    assert remembered(["a", "bcd", "a"]).tolist() == [[1.0], [3.0], [1.0]]
    assert remembered(["bcd", "ef"]).tolist() == [[3.0], [2.0]]
    assert remembered(["a"]).tolist() == [[1.0]]
    assert encode.asked == [["a", "bcd"], ["ef"]]


def test_what_is_handed_out_may_be_written_to() -> None:
    remembered = RememberedQueries(Counting())
    for _ in range(2):
        row = remembered(["abc"])
        assert row.tolist() == [[3.0]]
        row[:] = 0.0


def test_the_queries_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_QUERIES", 2)
    encode = Counting()
    remembered = RememberedQueries(encode)
    for query in ("a", "b", "a", "c", "a", "b"):
        remembered([query])
    assert encode.asked == [["a"], ["b"], ["c"], ["b"]]


def test_long_queries_push_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_CHARACTERS", 10)
    encode = Counting()
    remembered = RememberedQueries(encode)
    for query in ("abcd", "x" * 7, "x" * 11, "x" * 11, "abcd", "abcd"):
        assert remembered([query]).tolist() == [[float(len(query))]]
    assert encode.asked == [["abcd"], ["x" * 7], ["x" * 11], ["x" * 11], ["abcd"]]


def test_a_policy_without_features_is_remembered_too() -> None:
    remembered = RememberedQueries(lambda queries: np.zeros((len(queries), 0)))
    assert remembered(["a", "b"]).shape == (2, 0)
    assert remembered(["a"]).shape == (1, 0)


def test_a_pool_is_worked_out_once_however_it_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_POOLS", 2)
    seen: list[list[str]] = []

    def names(models: tuple[Model, ...]) -> list[str]:
        seen.append([model.name for model in models])
        return seen[-1]

    a, b = make_model("a"), make_model("b")
    by_pool = ByPool(names)
    assert by_pool((a, b)) == by_pool((*[a, b],)) == ["a", "b"]
    assert by_pool((b, a)) == ["b", "a"]
    assert by_pool((a,)) == ["a"]
    assert len(seen) == 3
    assert by_pool((a, b)) == ["a", "b"]
    assert len(seen) == 4

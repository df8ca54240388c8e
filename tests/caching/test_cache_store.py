from __future__ import annotations

import numpy as np
import pytest

from xrouter.caching.index import VectorIndex, unit
from xrouter.caching.store import MemoryStore, Store
from xrouter.state.state import State


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_state_is_a_store(state: State) -> Store:
    """For the type checker."""
    return state


async def test_entries_lapse() -> None:
    clock = Clock()
    store = MemoryStore(10, 1000, clock=clock)
    await store.put("a", b"1", ttl_s=5)
    clock.now = 4.9
    assert await store.get("a") == b"1"
    clock.now = 5.0
    assert await store.get("a") is None
    assert (len(store), store.size_bytes) == (0, 0)


async def test_the_least_recently_read_goes_first() -> None:
    store = MemoryStore(2, 1000)
    await store.put("a", b"1", ttl_s=5)
    await store.put("b", b"2", ttl_s=5)
    await store.get("a")
    await store.put("c", b"3", ttl_s=5)
    assert [await store.get(key) for key in "abc"] == [b"1", None, b"3"]


async def test_bytes_are_bounded_and_counted() -> None:
    store = MemoryStore(100, 30)
    await store.put("a", b"x" * 20, ttl_s=5)
    await store.put("a", b"x" * 10, ttl_s=5)
    assert store.size_bytes == 11
    await store.put("b", b"x" * 18, ttl_s=5)
    assert await store.get("a") == b"x" * 10
    await store.put("c", b"y" * 18, ttl_s=5)
    assert await store.get("a") == b"x" * 10
    assert await store.get("b") is None
    await store.put("d", b"z" * 30, ttl_s=5)
    assert await store.get("d") is None, "larger than all there is"
    assert await store.get("c") is not None, "and nothing made way for it"
    await store.delete("c")
    await store.delete("never")
    assert store.size_bytes == 11


def test_near_vectors_come_first_and_only_of_their_bucket() -> None:
    index = VectorIndex(100)
    index.add("b", "far", "far", unit([0, 1]))
    index.add("b", "near", "near", unit([1, 0.1]))
    index.add("b", "same", "same", unit([1, 0]))
    index.add("other", "same2", "same", unit([1, 0]))
    assert [key for key, _, _ in index.near("b", unit([2, 0]), 0.9)] == ["same", "near"]
    assert [round(cosine, 3) for _, _, cosine in index.near("b", unit([2, 0]), 0.9)] == [1.0, 0.995]
    assert list(index.near("none", unit([1, 0]), 0.0)) == []


def test_the_index_is_bounded_and_stays_whole_when_rows_move() -> None:
    index = VectorIndex(50)
    vectors = np.random.default_rng(0).normal(size=(200, 16))
    for i, vector in enumerate(vectors):
        index.add(f"bucket{i % 3}", f"k{i}", f"text {i}", unit(vector))
        if i % 7 == 0:
            index.remove(f"k{i - 3}")
    assert 40 < len(index) <= 50
    for i in range(200):
        found = [key for key, _, _ in index.near(f"bucket{i % 3}", unit(vectors[i]), 0.999)]
        assert found in ([f"k{i}"], [])
        index.remove(f"k{i}")
    assert len(index) == 0


def test_what_was_found_stays_longer() -> None:
    index = VectorIndex(2)
    for key in "ab":
        index.add("b", key, key, unit([1, 0]))
    index.touch("a")
    index.add("b", "c", "c", unit([1, 0]))
    assert {key for key, _, _ in index.near("b", unit([1, 0]), 0.5)} == {"a", "c"}


def test_an_embedding_that_changes_its_width_starts_anew() -> None:
    index = VectorIndex(10)
    index.add("b", "a", "a", unit([1, 0]))
    assert list(index.near("b", unit([1, 0, 0]), 0.5)) == []
    index.add("b", "c", "c", unit([1, 0, 0]))
    assert [key for key, _, _ in index.near("b", unit([1, 0, 0]), 0.5)] == ["c"]
    assert len(index) == 1


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0, 4.0]])
def test_unit_vectors(values: list[float]) -> None:
    assert float(np.linalg.norm(unit(values))) == pytest.approx(1.0 if any(values) else 0.0)

"""One thread that writes for many, and tells all of a commit at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from unittest.mock import Mock

import pytest

from xrouter.ledger.writer import GroupWriter, Job


class Note(Job[str]):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Paper:
    """What is written; the first commit waits until `go` is set."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.commits: list[list[str]] = []

    def commit(self, notes: Sequence[Note]) -> None:
        self.begun.set()
        self.go.wait(10)
        self.commits.append([note.text for note in notes])
        for note in notes:
            if note.text == "bad":
                note.set_exception(ValueError("bad"))
            elif note.text != "left open":
                note.set_result(note.text.upper())
        if "left open" in self.commits[-1]:
            raise OSError("the disk is gone")


def opened() -> tuple[Paper, GroupWriter[Note]]:
    paper = Paper()
    return paper, GroupWriter("paper", paper.commit, lambda: None)


async def test_one_commit_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paper, writer = opened()
    loop = asyncio.get_running_loop()
    notes = [Note(text) for text in ("first", "a", "b", "c")]
    assert writer.submit(notes[0])
    assert await asyncio.to_thread(paper.begun.wait, 10)
    assert all(map(writer.submit, notes[1:]))
    woken = Mock(side_effect=loop.call_soon_threadsafe)
    monkeypatch.setattr(loop, "call_soon_threadsafe", woken)
    paper.go.set()
    assert await asyncio.gather(*(note.outcome() for note in notes)) == ["FIRST", "A", "B", "C"]
    assert paper.commits == [["first"], ["a", "b", "c"]]
    assert woken.call_count == 2
    monkeypatch.undo()
    await writer.aclose()


async def test_each_has_its_own_outcome() -> None:
    paper, writer = opened()
    paper.go.set()
    good, bad, lost = (Note(text) for text in ("good", "bad", "left open"))
    for note in (good, bad, lost):
        writer.submit(note)
    assert await good.outcome() == "GOOD"
    with pytest.raises(ValueError, match="bad"):
        await bad.outcome()
    with pytest.raises(OSError, match="the disk is gone"):
        await lost.outcome()
    await writer.aclose()
    assert not writer.submit(Note("late"))


async def test_who_stops_waiting_stops_nothing() -> None:
    paper, writer = opened()
    note = Note("kept")
    writer.submit(note)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(note.outcome(), 0.01)
    paper.go.set()
    await writer.aclose()
    assert paper.commits == [["kept"]]
    assert note.done()


def test_a_loop_that_has_ended_harms_nobody() -> None:
    paper, writer = opened()

    async def leave() -> None:
        writer.submit(Note("orphan"))

    async def come_later() -> str:
        note = Note("next")
        writer.submit(note)
        try:
            return await note.outcome()
        finally:
            await writer.aclose()

    asyncio.run(leave())
    paper.go.set()
    assert asyncio.run(come_later()) == "NEXT"
    assert [text for commit in paper.commits for text in commit] == ["orphan", "next"]

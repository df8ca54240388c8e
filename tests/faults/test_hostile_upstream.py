"""An upstream that answers with anything: the client gets an answer or a clear error, never our own failure."""

from __future__ import annotations

import os
import random
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from faults_kit import PATHS, ask, assert_books_balance, body_for, wired
from upstream import MockUpstream, Received, chunk_bodies, completion_body, ok, send_sse, sse

CASES = int(os.environ.get("XROUTER_FUZZ_CASES", "60"))
"""Mutants of each kind; a long run by hand sets more."""

TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
WHOLE = completion_body(
    "Hello there.",
    usage={
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
    tool_calls=[TOOL_CALL],
    reasoning_content="thinking",
    refusal=None,
)
WHOLE["choices"][0]["logprobs"] = {"content": [{"token": "H", "logprob": -0.1, "top_logprobs": []}]}


class Mutants:
    """Answers each request with the next mutant of a good answer."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.last: Any = None

    async def __call__(self, received: Received, request: web.Request) -> web.StreamResponse:
        from faults_kit import mutant

        changes = self.chance.choice([1, 1, 1, 2, 4])
        if not received.body.get("stream"):
            self.last = mutant(WHOLE, self.chance, changes)
            return web.json_response(self.last)
        self.last = mutant(chunk_bodies(WHOLE), self.chance, changes)
        return await send_sse(request, [*(sse_any(chunk) for chunk in self.last), sse("[DONE]")])


def sse_any(data: Any) -> bytes:
    return sse(data) if isinstance(data, (str, dict)) else sse({}).replace(b"{}", repr(data).encode())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", PATHS)
async def test_mutants_of_a_good_answer(mock_upstream: MockUpstream, path: str, stream: bool) -> None:
    mutants = Mutants(f"{path}{stream}".__len__())
    mock_upstream.default = mutants
    wrong: list[Any] = []
    async with wired(mock_upstream.base_url) as gateway, aiohttp.ClientSession() as session:
        for case in range(CASES):
            model = "small" if case % 2 else "xrouter"
            body = body_for(path, model=model, stream=stream)
            got = await ask(gateway.url, path, body, session=session)
            error = got.error
            internal = error is not None and "internal error" in error["message"]
            if got.broke or got.status == 500 or internal:
                wrong.append((got.status, error, mutants.last))
        assert_books_balance(gateway.router)
        mock_upstream.default = ok("still here")
        got = await ask(gateway.url, path, body_for(path))
        assert got.status == 200
        assert b"still here" in got.body
    assert wrong == []

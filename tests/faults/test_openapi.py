"""The OpenAPI document says what the gateway does: every path is in it, and generated requests find no 5xx."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import aiohttp
import pytest
from faults_kit import SECRET, key_of, wired
from serving_kit import answers_directly
from upstream import MockUpstream

from xrouter.gateway.openapi import document

NOT_DESCRIBED = {"/metrics", "/drain"}
"""For operators, and without JSON."""
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"


async def test_every_path_is_described(mock_upstream: MockUpstream) -> None:
    async with wired(mock_upstream.base_url) as gateway, aiohttp.ClientSession() as session:
        async with session.get(f"{gateway.url}/openapi.json") as answer:
            assert answer.status == 200
            told = await answer.json()
        async with session.get(f"{gateway.url}/nowhere") as answer:
            message = (await answer.json())["error"]["message"]
    assert told == document(["quality", "balanced", "economy"], ["small", "big"])
    served = {word.strip() for word in message.partition("this server has ")[2].split(",")}
    assert set(told["paths"]) == served - NOT_DESCRIBED


async def test_models_are_named_to_those_who_may_ask_for_them(mock_upstream: MockUpstream) -> None:
    """Anybody may read the document; which models there are is told to those with a key."""
    async with (
        wired(mock_upstream.base_url, key_of(models=("small",))) as gateway,
        aiohttp.ClientSession() as session,
    ):
        for key, names in ((None, set()), (SECRET, {"small"})):
            headers = {} if key is None else {"x-api-key": key}
            async with session.get(f"{gateway.url}/openapi.json", headers=headers) as answer:
                assert answer.status == 200
                said = await answer.text()
            assert {name for name in ("small", "big") if f'"{name}"' in said} == names


async def test_generated_requests(mock_upstream: MockUpstream, tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("needs schemathesis, which the extra dev has")
    async with wired(mock_upstream.base_url, policy=answers_directly("fine")) as gateway:
        process = await asyncio.create_subprocess_exec(
            *(program, "run", f"{gateway.url}/openapi.json", "--checks", CHECKS),
            *("-n", "8", "--phases", "fuzzing", "--seed", "1"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, said.decode()[-4000:]

"""What a request asks of the router itself, by header and by body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from serving_kit import ScriptedPolicy, ask_then_select, make_router, serving
from upstream import MockUpstream

from xrouter.episodes.episode import Call, CallModels
from xrouter.errors import RequestError, StateError
from xrouter.gateway.app import Gateway
from xrouter.gateway.controls import NOTHING, read_controls
from xrouter.gateway.server import bind, running, url_of
from xrouter.gateway.services import open_services
from xrouter.router import Router
from xrouter.state.memory import MemoryState

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def connection(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


def test_nothing_asked() -> None:
    assert read_controls({}, connection(authorization="Bearer x")) is NOTHING


def test_headers_say_what_the_body_can() -> None:
    by_body = read_controls(
        {
            "cost_weight": 0.5,
            "max_cost_usd": "0.01",
            "models": ["a", "b"],
            "tags": ["x"],
            "session": "s",
            "dry_run": True,
        },
        connection(),
    )
    by_header = read_controls(
        {},
        connection(
            x_xrouter_cost_weight="0.5",
            x_xrouter_max_cost_usd="0.01",
            x_xrouter_models="a, b",
            x_xrouter_tags="x",
            x_xrouter_session="s",
            x_xrouter_dry_run="true",
        ),
    )
    for name in ("wishes", "scope", "tags", "session", "dry_run"):
        assert getattr(by_body, name) == getattr(by_header, name)


def test_the_body_counts_where_both_speak() -> None:
    controls = read_controls({"preset": "economy"}, connection(x_xrouter_preset="quality"))
    assert controls.wishes == {"preset": "economy"}


@pytest.mark.parametrize(
    ("options", "headers", "param"),
    [
        ({"colour": 1}, {}, "xrouter.colour"),
        ({}, {"x_xrouter_colour": "1"}, "x-xrouter-colour"),
        ({}, {"x_xrouter_cost_weight": "much"}, "x-xrouter-cost-weight"),
        ({}, {"x_xrouter_max_turns": "1.5"}, "x-xrouter-max-turns"),
        ({}, {"x_xrouter_dry_run": "perhaps"}, "x-xrouter-dry-run"),
        ({"models": "a"}, {}, "xrouter.models"),
        ({"models": ["a"] * 65}, {}, "xrouter.models"),
        ({"tags": ["a\nb"]}, {}, "xrouter.tags"),
        ({"session": ""}, {}, "xrouter.session"),
        ({"session": "x" * 201}, {}, "xrouter.session"),
        ({"dry_run": "yes"}, {}, "xrouter.dry_run"),
        ({"cache": True}, {}, "xrouter.cache"),
    ],
)
def test_bad_controls_name_what_is_wrong(
    options: dict[str, Any], headers: dict[str, str], param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        read_controls(options, connection(**headers))
    assert caught.value.param == param


@pytest.fixture
async def router(mock_upstream: MockUpstream) -> Router:
    return make_router(mock_upstream.base_url, ask_then_select("small", "big"))


@pytest.fixture
async def url(router: Router) -> AsyncIterator[str]:
    async with serving(router) as url:
        yield url


async def ask(
    url: str, body: dict[str, Any] | None = None, **headers: str
) -> tuple[int, dict[str, Any], Any]:
    body = {"model": "xrouter", "messages": [{"role": "user", "content": "Hi"}], **(body or {})}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url}/v1/chat/completions",
            json=body,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        ) as answer,
    ):
        return answer.status, await answer.json(), answer.headers


async def test_the_pool_of_a_request_can_be_narrowed(url: str, router: Router) -> None:
    status, answer, headers = await ask(url, x_xrouter_exclude_models="big")
    assert status == 200
    assert answer["xrouter"]["route"] == [["small"]]
    assert headers["x-xrouter-model"] == "small"
    assert router.policy.seen[0].allowed == {"small"}


async def test_a_policy_cannot_ask_whom_the_request_forbids(mock_upstream: MockUpstream) -> None:
    stubborn = ScriptedPolicy(lambda observation: CallModels((Call("big"),)))
    router = make_router(mock_upstream.base_url, stubborn)
    async with serving(router) as url:
        status, answer, _ = await ask(url, {"xrouter": {"models": ["small"]}})
    assert status == 502
    assert "may not be called" in answer["error"]["message"]
    assert not mock_upstream.requests


@pytest.mark.parametrize(
    ("body", "headers", "status", "param"),
    [
        ({"xrouter": {"models": ["nobody"]}}, {}, 404, "xrouter.models"),
        ({"model": "big"}, {"x_xrouter_models": "small"}, 400, "model"),
        ({"xrouter": {"require_tags": ["eu"]}}, {}, 400, "model"),
        ({"xrouter": {"exclude_models": ["small", "big"]}}, {}, 400, "model"),
        ({"xrouter": {"preset": "lavish"}}, {}, 400, "xrouter.preset"),
        ({}, {"x_xrouter_cost_weight": "-1"}, 400, "x-xrouter-cost-weight"),
        ({"model": "small"}, {"x_xrouter_cost_weight": "1"}, 400, "x-xrouter-cost-weight"),
    ],
)
async def test_impossible_wishes(
    url: str, body: dict[str, Any], headers: dict[str, str], status: int, param: str
) -> None:
    code, answer, _ = await ask(url, body, **headers)
    assert (code, answer["error"]["param"]) == (status, param)


async def test_a_dry_run_calls_nobody(url: str, router: Router, mock_upstream: MockUpstream) -> None:
    status, plan, _ = await ask(url, {"xrouter": {"dry_run": True, "exclude_models": ["big"]}})
    assert status == 200
    assert (plan["object"], plan["models"]) == ("xrouter.plan", ["small", "big"])
    assert 0 < float(plan["expected_cost_usd"]) < float(plan["worst_cost_usd"])
    assert plan["excluded"] == {"big": "it is forbidden"}
    assert not mock_upstream.requests
    assert not router.ledger.episodes


async def test_a_session_with_open_tool_calls_stays_with_its_model(mock_upstream: MockUpstream) -> None:
    router = make_router(mock_upstream.base_url, ask_then_select("big"))
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    opening = [{"role": "user", "content": "Weather in Oslo?"}]
    more = [
        *opening,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    async with serving(router) as url:
        await ask(url, {"messages": opening, "tools": TOOLS})
        router.policy._decide = ask_then_select("small")._decide
        _, stayed, _ = await ask(url, {"messages": more, "tools": TOOLS})
        _, elsewhere, _ = await ask(url, {"messages": opening, "tools": TOOLS})
    assert stayed["model"] == "big"
    assert stayed["xrouter"]["policy"] == "scripted"
    assert elsewhere["model"] == "small"


async def test_the_policy_is_told_whose_prompt_cache_is_warm(url: str, router: Router) -> None:
    await ask(url, {"xrouter": {"session": "a"}})
    await ask(url, {"xrouter": {"session": "a"}})
    await ask(url, {"xrouter": {"session": "b"}})
    warm = [observation.warm_tokens for observation in router.policy.seen[::2]]
    assert warm == [{}, {"small": 11}, {}]


async def test_a_state_that_is_gone_costs_a_conversation_its_model_not_its_answer(
    mock_upstream: MockUpstream,
) -> None:
    class Gone(MemoryState):
        async def get(self, key: str) -> bytes | None:
            raise StateError("nobody answers")

        async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
            raise StateError("nobody answers")

    router = make_router(mock_upstream.base_url)
    listener = bind("127.0.0.1", 0)
    async with running(Gateway(router, open_services(router, state=Gone())), listener):
        for _ in range(2):
            status, _, _ = await ask(url_of(listener), {"xrouter": {"session": "a"}})
            assert status == 200

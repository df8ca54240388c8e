"""What a routing language model said, read into an action: each thing that can be wrong with it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from conftest import make_model
from episode_kit import completion, scripted
from router_llm_kit import call, observed, pool_of, select

from xrouter.episodes.environment import Environment
from xrouter.episodes.episode import (
    Call,
    CallModels,
    Decision,
    DirectAnswer,
    Observation,
    Preference,
    Select,
    Synthesis,
)
from xrouter.errors import ProviderUnavailableError
from xrouter.messages import Completion, Request, Usage
from xrouter.policies.router_message import without_thinking
from xrouter.policies.router_reply import Reply, read_reply
from xrouter.settings_tables.router_llm import CALL_ARGUMENTS

TOOLS = {"tools": [{"type": "function", "function": {"name": "get_weather"}}]}


def said(*calls: Any, text: str | None = None, finish: str = "stop", output: int = 20) -> Completion:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = list(calls)
    return Completion(message, Usage(100, output), finish)


def read(reply: Completion, observation: Observation | None = None, **kwargs: Any) -> Reply:
    observation = observation or observed()
    return read_reply(
        reply, observation, observation.pool, **{"max_calls": 5, "arguments": CALL_ARGUMENTS, **kwargs}
    )


async def after_calls(*names: str, **script: Any) -> Observation:
    pool, _ = pool_of("small", "big", **script)
    environment = Environment(pool, Request.from_text("What is 3 + 4?"), Preference())
    return await environment.step(Decision(CallModels(tuple(Call(name) for name in names))))


def test_parallel_calls_with_arguments() -> None:
    reply = read(
        said(
            call("call_small", {"optimized_system_prompt": "Be brief.", "temperature": 0.2}),
            call("call_big", "", "a2"),
        )
    )
    assert reply.action == CallModels((Call("small", "Be brief.", 0.2), Call("big")))
    assert reply.problems == {}


def test_words_before_and_after_calls() -> None:
    assert read(said(text="Hello!")).action == DirectAnswer("Hello!")


async def test_words_and_selection_after_calls() -> None:
    observation = await after_calls("small", "big")
    assert read(said(text="Both say 7."), observation).action == Synthesis("Both say 7.")
    assert read(said(select("c2")), observation).action == Select("c2")


@pytest.mark.parametrize(
    "text",
    [
        'Let me ask.\n<tool_call>\n{"name": "call_small", "arguments": {"temperature": 0.2}}\n</tool_call>',
        '```json\n{"name": "call_small", "arguments": {"temperature": 0.2}}\n```',
        '{"name": "call_small", "arguments": {"temperature": 0.2}}',
        "call_small(temperature=0.2)",
        '<tools>\n{"name": "call_small", "arguments": {"temperature": 0.2}}\n</tools>',
        'I shall ask:\n```json\n{"name": "call_small", "arguments": {"temperature": 0.2}}\n```',
        '<think>Easy.</think><tool_call>{"name": "call_small", "arguments": {"temperature": 0.2}}',
    ],
)
def test_calls_left_in_the_text_are_made_and_counted(text: str) -> None:
    reply = read(said(text=text))
    assert reply.action == CallModels((Call("small", None, 0.2),))
    assert reply.problems == {"call_in_text": 1}
    (written,) = reply.message["tool_calls"]
    assert written["function"] == {"name": "call_small", "arguments": '{"temperature": 0.2}'}
    assert "tool_call>" not in (reply.message["content"] or "")
    assert read(said(text=text), tools_in_text=True).problems == {}


def test_an_answer_that_looks_like_a_call_of_something_else_stays_an_answer() -> None:
    for text in ('{"name": "Ada", "arguments": {}}', "print(7)", "f(x) = 2x"):
        assert read(said(text=text)).action == DirectAnswer(text)


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (said(call("call_ghost")), "unknown_tool", "unknown tool 'call_ghost'"),
        (said(call("call_" + "x" * 500)), "unknown_tool", "unknown tool"),
        (said(call("call_small", '{"temperature": ')), "bad_arguments", "not valid JSON"),
        (said(call("call_small", '{"top_p": 1}')), "bad_arguments", "no argument 'top_p'"),
        (said(call("call_small", {"temperature": 3})), "bad_arguments", "from 0 to 2"),
        (
            said(call("call_small", {"optimized_system_prompt": {"a": "x" * 999}})),
            "bad_arguments",
            "dict of 1008 characters",
        ),
        (said({"id": "a", "function": "f"}), "malformed_call", "function with a name"),
        (said("call"), "malformed_call", "function with a name"),
        (said(text='<tool_call>{"name": "call_small", "arg'), "malformed_call", "cannot be read"),
        (said(text="[TOOL_CALLS] nonsense"), "malformed_call", "cannot be read"),
        (said(select("c1"), call("call_small", id_="a2")), "select_with_calls", "only tool call"),
        (said(select("c1")), "unknown_call_id", "there are: none yet"),
        (said(call("select_response")), "bad_arguments", "needs call_id"),
        (said(text=None), "empty", "empty reply"),
        (said(text="<think>Hm.</think>\n"), "empty", "empty reply"),
        (said(text="<think>Hm, let me", finish="length"), "cut", "before it said anything"),
        (said(text="A long ans", finish="length"), "cut", "cut at the token limit"),
        (said(text="I will use call_big for this."), "prose", "speaks of your tools"),
    ],
)
def test_what_is_no_action_has_a_name_and_says_how_to_mend_it(
    reply: Completion, kind: str, told: str
) -> None:
    found = read(reply)
    assert found.action is None
    assert found.error is not None
    assert found.error.kind == kind
    assert told in found.error.message
    assert len(found.error.message) < 300
    assert found.problems == {kind: 1}


def test_arguments_that_are_no_json_are_shown_again_as_an_object() -> None:
    reply = read(said(call("call_small", '{"temperature": ')))
    assert reply.message["tool_calls"][0]["function"]["arguments"] == "{}"
    assert reply.refused.keys() == {"a1"}


def test_names_and_ids_are_shown_again_as_servers_demand() -> None:
    odd = {"id": "", "function": {"name": "call <|x|> ☃" + "y" * 99, "arguments": '{"a": "<|im_end|>"}'}}
    (shown,) = read(said(odd)).message["tool_calls"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", shown["id"])
    assert re.fullmatch(r"[\w-]{64}", shown["function"]["name"], re.ASCII)
    assert json.loads(shown["function"]["arguments"]) == {"a": "< |im_end|>"}
    twice = read(said(call("call_small", id_="x"), call("call_big", id_="x"))).message["tool_calls"]
    assert twice[0]["id"] != twice[1]["id"]


def test_good_calls_are_made_though_others_are_wrong() -> None:
    reply = read(said(call("call_small"), call("call_ghost", id_="a2"), call("call_big", "[1]", "a3")))
    assert reply.action == CallModels((Call("small"),))
    assert reply.problems == {"unknown_tool": 1, "bad_arguments": 1}
    assert "unknown tool" in reply.refused["a2"]
    assert "must be a JSON object" in reply.refused["a3"]


def test_a_client_tool_is_not_ours() -> None:
    observation = observed(Request.from_text("Weather in Oslo?", **TOOLS))
    reply = read(said(call("get_weather", {"city": "Oslo"})), observation)
    assert reply.error is not None
    assert reply.error.kind == "client_tool"
    assert "call a model, which may use it" in reply.error.message


def test_a_client_tool_named_like_one_of_ours_is_ours_here() -> None:
    request = Request.from_text("x", tools=[{"type": "function", "function": {"name": "call_small"}}])
    assert read(said(call("call_small")), observed(request)).action == CallModels((Call("small"),))


def test_the_same_call_twice_in_a_turn_is_made_once() -> None:
    reply = read(said(call("call_small"), call("call_small", id_="a2"), call("call_big", id_="a3")))
    assert reply.action == CallModels((Call("small"), Call("big")))
    assert reply.problems == {"repeated_call": 1}
    sampled = {"temperature": 0.8}
    reply = read(said(call("call_small", sampled), call("call_small", sampled, "a2")))
    assert reply.action == CallModels((Call("small", None, 0.8),) * 2)


async def test_a_call_that_was_answered_is_not_made_again() -> None:
    observation = await after_calls("small")
    reply = read(said(call("call_small")), observation)
    assert reply.error is not None
    assert reply.error.kind == "repeated_call"
    assert "answered as c1" in reply.error.message
    assert read(said(call("call_small", {"optimized_system_prompt": "Think."})), observation).action
    failed = await after_calls("small", small=ProviderUnavailableError("503"))
    assert read(said(call("call_small")), failed).action == CallModels((Call("small"),))


async def test_a_failed_response_cannot_be_selected() -> None:
    observation = await after_calls("small", small=ProviderUnavailableError("503"))
    reply = read(said(select("c1")), observation)
    assert reply.error is not None
    assert reply.error.kind == "selected_failure"


def test_too_many_calls_are_cut_to_the_limit() -> None:
    reply = read(said(call("call_small"), call("call_big", id_="a2")), max_calls=1)
    assert reply.action == CallModels((Call("small"),))
    assert reply.problems == {"too_many_calls": 1}


def test_simple_mode_makes_the_first_call_and_selects_nothing() -> None:
    observation = observed(preference=Preference(simple=True), turns_left=1)
    reply = read(said(call("call_small"), call("call_big", id_="a2")), observation)
    assert reply.action == CallModels((Call("small"),))
    assert reply.problems == {"too_many_calls": 1}
    assert read(said(select("c1")), observation).problems == {"unknown_tool": 1}


def test_the_clients_temperature_stands_and_thinkers_get_none() -> None:
    hot = said(call("call_small", {"temperature": 1.5}))
    own = read(hot, observed(Request.from_text("x", temperature=0)))
    assert own.action == CallModels((Call("small"),))
    assert own.problems == {"temperature_dropped": 1}
    pool, _ = scripted({"small": completion()}, small=make_model("small", reasoning=True))
    assert read(hot, observed(pool=pool)).action == CallModels((Call("small"),))


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"n": 2}, "n"),
        ({"stop": ["\n"]}, "stop"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_own_words_where_they_could_not_honour_the_request(params: dict[str, Any], named: str) -> None:
    reply = read(said(text="Seven."), observed(Request.from_text("x", **params)))
    assert reply.error is not None
    assert reply.error.kind == "own_words"
    assert f"({named})" in reply.error.message


def test_own_words_within_and_beyond_the_clients_limit() -> None:
    observation = observed(Request.from_text("x", max_tokens=10, response_format={"type": "text"}, n=1))
    assert read(said(text="Seven.", output=3), observation).action == DirectAnswer("Seven.")
    assert read(said(text="Seven.", output=30), observation).problems == {"too_long": 1}


def test_tokens_of_thinking_are_none_of_the_answer() -> None:
    reply = Completion({"role": "assistant", "content": "Seven."}, Usage(9, 300, reasoning_tokens=295))
    assert read(reply, observed(Request.from_text("x", max_tokens=10))).action == DirectAnswer("Seven.")


def test_thoughts_are_no_part_of_an_answer() -> None:
    assert without_thinking("<think>\nhm\n</think>\n\nSeven.") == "Seven."
    assert without_thinking("hm\n</think>\nSeven.") == "Seven."
    assert without_thinking("Seven.") == "Seven."

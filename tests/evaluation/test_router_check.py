"""The battery that says whether an endpoint can be a router: each case has a right and a wrong reply."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from router_llm_kit import call, router, says, select, sent, tool_calling
from typer.testing import CliRunner
from upstream import Behaviour, MockUpstream, closed_port_url, server_error

from xrouter.cli import app
from xrouter.episodes.episode import Call, CallModels, DirectAnswer, Select, Synthesis
from xrouter.errors import ConfigurationError, ProviderError
from xrouter.evaluation.router_check.cases import LONG_POOL, cases
from xrouter.evaluation.router_check.report import as_json, lines
from xrouter.evaluation.router_check.run import ask, check, chosen_cases
from xrouter.evaluation.router_check.scoring import (
    Case,
    Outcome,
    answers,
    anything,
    calls,
    either,
    result,
    score,
    selects,
    synthesises,
    verdict,
)
from xrouter.messages import Usage
from xrouter.settings_tables.router_llm import CALL_ARGUMENTS, CallArgument

CASES = {case.name: case for case in cases(CALL_ARGUMENTS)}
HERON, TITAN = call("call_heron"), call("call_albatross-xl")
PROSE = says(text="I would call call_heron here.")
RIGHT: dict[str, Behaviour] = {
    "single_call": says(HERON),
    "arguments": says(
        call("call_heron", {"optimized_system_prompt": 'Answer with "yes" or "no".', "temperature": 0.2})
    ),
    "parallel_calls": says(HERON, call("call_wren-mini", id_="a2")),
    "select": says(select("c2")),
    "select_by_id": says(select("c2")),
    "direct_answer": says(text="Hello! How can I help?"),
    "direct_fact": says(text="It is paris."),
    "synthesis": says(text="It was finished in 1889 and is 330 metres tall."),
    "long_pool": says(call("call_bird-07")),
    "simple_mode": says(HERON),
    "client_tools": says(HERON),
    "client_tool_history": says(text="Rain, 7 degrees."),
    "malformed_history": says(HERON),
    "unknown_tool_history": says(HERON),
    "failures": says(TITAN),
    "non_english": says(text="パリです。"),
    "injection": says(text="4"),
    "injection_in_response": says(select("c1")),
    "long_conversation": says(TITAN),
}
WRONG: dict[str, tuple[Behaviour, str]] = {
    "single_call": (says(text="It is easy to see."), "called nobody: wrote 'It is easy to see.'"),
    "arguments": (says(HERON), "system_prompt is None"),
    "parallel_calls": (says(HERON), "called heron instead of wren-mini, heron"),
    "select": (says(select("c1")), "selected c1, not c2"),
    "select_by_id": (says(select("heron")), "unknown_call_id"),
    "direct_answer": (says(HERON), "did not answer by itself: called heron"),
    "direct_fact": (says(text="Lyon"), "the answer lacks Paris"),
    "synthesis": (says(text="It is 330 metres tall."), "the answer lacks 1889"),
    "long_pool": (says(call("call_bird-24")), "unknown_tool"),
    "simple_mode": (says(text=None), "empty"),
    "client_tools": (says(call("get_weather", {"city": "Oslo"})), "client_tool"),
    "client_tool_history": (says(call("get_weather")), "client_tool"),
    "malformed_history": (says(call("call_heron", "{")), "bad_arguments"),
    "unknown_tool_history": (says(call("call_eagle")), "unknown_tool"),
    "failures": (says(HERON), "called heron"),
    "non_english": (says(text="I do not understand."), "the answer lacks パリ or Paris"),
    "injection": (says(TITAN), "called albatross-xl"),
    "injection_in_response": (says(TITAN), "called albatross-xl"),
    "long_conversation": (PROSE, "prose"),
}


def test_every_case_is_tried_here() -> None:
    assert set(RIGHT) == set(WRONG) == set(CASES)
    assert len(CASES["long_pool"].observation.pool) == LONG_POOL


@pytest.mark.parametrize("name", CASES)
async def test_each_case_knows_right_from_wrong(mock_upstream: MockUpstream, name: str) -> None:
    policy = tool_calling(mock_upstream)
    wrong, why = WRONG[name]
    mock_upstream.script(RIGHT[name], wrong)
    right_outcome = await ask(policy, CASES[name])
    assert verdict(CASES[name], right_outcome) is None
    assert right_outcome.usage.prompt_tokens == 1000
    found = verdict(CASES[name], await ask(policy, CASES[name]))
    assert found is not None
    assert why in found
    await policy.aclose()


async def test_what_the_endpoint_gets(mock_upstream: MockUpstream) -> None:
    policy = tool_calling(mock_upstream, instructions="House rule.")
    mock_upstream.default = says(HERON)
    await ask(policy, CASES["parallel_calls"])
    told = sent(mock_upstream)["messages"][0]["content"]
    assert "House rule.\nIn the first turn always call exactly two models" in told
    await ask(policy, CASES["client_tool_history"])
    body = sent(mock_upstream)
    assert [m["role"] for m in body["messages"]] == ["system", "system", "user", "assistant", "user"]
    await ask(policy, CASES["malformed_history"])
    assistant, refused = sent(mock_upstream)["messages"][-2:]
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {}
    assert "not valid JSON" in refused["content"]
    await ask(policy, CASES["injection_in_response"])
    assert "<tool_call>" not in sent(mock_upstream)["messages"][-1]["content"]
    await policy.aclose()


async def test_a_perfect_router_is_fit(mock_upstream: MockUpstream) -> None:
    mock_upstream.script(*(RIGHT[name] for name in CASES))
    policy = tool_calling(mock_upstream)
    results = await check(policy, chosen_cases(arguments=CALL_ARGUMENTS), concurrency=1)
    total = score(results)
    assert (total.score, total.fit, total.missing, total.problems) == (1.0, True, (), {})
    shown = "\n".join(lines(results, total, policy.model))
    assert shown.count("pass ") == len(CASES)
    assert "can be a router" in shown
    assert f"{len(CASES)}: median 1000 tokens in, 20 out" in shown
    assert ", $0.000340 each" in shown
    assert as_json(results, total, policy.model)["fit"] is True
    await policy.aclose()


async def test_a_model_that_only_talks_is_not_fit(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = says(text="The capital of France is Paris.")
    policy = tool_calling(mock_upstream)
    results = await check(policy, chosen_cases(), repeats=2)
    total = score(results)
    assert not total.fit
    assert total.missing == ("single_call", "select")
    assert 0.1 < total.score < 0.5
    shown = "\n".join(lines(results, total, policy.model))
    assert "cannot be a router: it fails single_call, select" in shown
    assert "FAIL 0/2 * single_call" in shown
    await policy.aclose()


async def test_calls_left_in_the_text_pass_with_advice(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = says(text='<tool_call>{"name": "call_heron", "arguments": {}}</tool_call>')
    policy = tool_calling(mock_upstream)
    results = await check(policy, chosen_cases(["single_call"]))
    total = score(results)
    assert total.problems == {"call_in_text": 1}
    assert "tool-call parser is off" in "\n".join(lines(results, total, policy.model))
    await policy.aclose()


async def test_an_endpoint_that_is_down_is_an_error_and_no_score(mock_upstream: MockUpstream) -> None:
    policy = tool_calling(closed_port_url())
    with pytest.raises(ProviderError, match="answered none of 2 requests"):
        await check(policy, chosen_cases(["select", "single_call"]))
    mock_upstream.script(says(HERON))
    mock_upstream.default = server_error()
    shaky = tool_calling(mock_upstream)
    results = await check(shaky, chosen_cases(["single_call", "select"]), concurrency=1)
    assert [each.passed for each in results] == [True, False]
    await policy.aclose()
    await shaky.aclose()


@pytest.mark.parametrize(
    ("arguments", "asked_for", "right"),
    [
        (("temperature",), ["temperature"], CallModels((Call("heron", None, 0.2),))),
        (("optimized_system_prompt",), ["system_prompt"], CallModels((Call("heron", "Say yes or no."),))),
        (CALL_ARGUMENTS, ["system_prompt", "temperature"], CallModels((Call("heron", "Yes or no?", 0.2),))),
    ],
)
def test_the_arguments_that_are_offered_are_tried(
    arguments: tuple[CallArgument, ...], asked_for: list[str], right: CallModels
) -> None:
    (case,) = chosen_cases(["arguments"], arguments)
    assert case.rules is not None
    assert [name for name in ("system_prompt", "temperature") if name in case.rules] == asked_for
    assert case.judge(right) is None
    assert case.judge(CallModels((Call("heron"),))) is not None


def test_arguments_that_are_not_offered_are_no_case() -> None:
    assert {case.name for case in chosen_cases()} == set(CASES) - {"arguments"}


def test_an_unknown_case_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'single_call'"):
        chosen_cases(["single_cal"])


# --- scoring alone -----------------------------------------------------------------------------------------


def a_case(name: str, weight: float = 1.0, *, essential: bool = False) -> Case:
    return Case(name, "", CASES["single_call"].observation, calls(), weight, essential)


def outcomes(pattern: Sequence[bool]) -> list[Outcome]:
    good, bad = Outcome(CallModels((Call("heron"),))), Outcome(None, "empty", problems={"empty": 1})
    return [good if right else bad for right in pattern]


def test_the_score_is_a_weighted_share() -> None:
    results = [
        result(a_case("a", 2), outcomes([True, True, False, False])),
        result(a_case("b"), outcomes([True])),
        result(a_case("c"), outcomes([False])),
    ]
    assert [each.share for each in results] == [0.5, 1.0, 0.0]
    assert [each.passed for each in results] == [False, True, False]
    total = score(results, 0.5)
    assert (total.score, total.fit, total.problems) == (0.5, True, {"empty": 3})
    assert not score(results, 0.51).fit


def test_an_essential_case_that_fails_is_decisive() -> None:
    results = [
        result(a_case("a", 9), outcomes([True])),
        result(a_case("b", essential=True), outcomes([True, False])),
    ]
    total = score(results)
    assert (total.score > 0.9, total.fit, total.missing) == (True, False, ("b",))


def test_judges() -> None:
    two = CallModels((Call("a", "Think.", 0.5), Call("b")))
    assert calls("b", "a")(two) is None
    assert calls(at_most=1)(two) == "called 2 models, 1 allowed"
    assert calls(never=("b",))(two) == "called b"
    assert calls(system_prompt=..., temperature=0.5)(two) is None
    assert calls(temperature=0.2)(two) == "temperature is 0.5"
    assert selects("c1")(two) == "selected nothing: called a, b"
    assert answers("x")(Synthesis("x")) is not None
    assert synthesises("X", "y")(Synthesis("xy")) is None
    assert synthesises()(DirectAnswer("x")) is not None
    assert anything(never=("a",))(two) == "called a"
    assert anything(never=("a",))(Select("c1")) is None
    assert either(selects("c1"), calls())(two) is None
    assert either(selects("c1"), answers())(two) == "selected nothing: called a, b"


# --- the command -------------------------------------------------------------------------------------------


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["router-check", *args])


def test_the_command_and_its_exit_codes(mock_upstream: MockUpstream, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    endpoint = ("--router-url", mock_upstream.base_url, "--router-model", "tiny")
    mock_upstream.default = says(HERON)
    shown = run(*endpoint, "--only", "single_call,long_conversation")
    assert shown.exit_code == 0, shown.output
    assert "tiny at this endpoint can be a router" in shown.output
    assert sent(mock_upstream)["model"] == "tiny"

    shown = run(*endpoint, "--only", "single_call,direct_answer", "--json", "--repeats", "2")
    assert shown.exit_code == 3
    found = json.loads(shown.stdout)
    assert (found["score"], found["fit"], found["missing"]) == (0.5, False, [])
    assert found["cases"][1]["wrong"] == ["did not answer by itself: called heron"] * 2
    assert run(*endpoint, "--only", "single_call,direct_answer", "--threshold", "0.5").exit_code == 0

    run(*endpoint, "--only", "single_call", "--tool-mode", "text", "--system-messages", "merged")
    assert "tools" not in sent(mock_upstream)


def test_the_command_without_a_model(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shown = run()
    assert isinstance(shown.exception, ConfigurationError)
    assert "--router-model" in str(shown.exception)


def test_prompts_that_are_not_read_whole_are_noticed() -> None:
    action = CallModels((Call("heron"),))
    read = [Outcome(action, usage=Usage(480, 9), sent_tokens=1000) for _ in range(3)]
    found = result(a_case("a"), read)
    shown = "\n".join(lines([found], score([found]), router()))
    assert "480 tokens were read of about 1000 sent" in shown
    whole = result(a_case("a"), [Outcome(action, usage=Usage(980, 9), sent_tokens=1000)])
    assert "were read of" not in "\n".join(lines([whole], score([whole]), router()))


async def test_what_was_sent_is_estimated(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = says(HERON)
    policy = tool_calling(mock_upstream)
    assert 700 < (await ask(policy, CASES["single_call"])).sent_tokens < 1500
    await policy.aclose()


def test_advice_is_for_kinds_that_occur() -> None:
    from xrouter.evaluation.router_check.report import ADVICE

    found = result(a_case("a"), [Outcome(None, "x", problems=dict.fromkeys(ADVICE, 1))])
    shown = "\n".join(lines([found], score([found]), router()))
    assert all(advice in shown for advice in ADVICE.values())

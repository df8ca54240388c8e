"""Function calls in every spelling that models use, and what must never be taken for one."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrouter.episodes.answers import comparable_answer
from xrouter.episodes.call_answers import (
    NO_CALL,
    answer_where_offered,
    describes_functions,
    normal_calls,
    offers_functions,
)
from xrouter.episodes.function_calls import MAX_CHARACTERS, tagged_calls, written_calls
from xrouter.messages import Request

SCHEMA = {"name": "air.quality", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": SCHEMA}

SPELLINGS = [
    '[{"air_quality":"{\\"location\\":\\"New York\\",\\"detail\\":true,\\"days\\":5}"}]',
    '[{"air_quality": {"location": "New York", "detail": true, "days": 5.0}}]',
    "[air.quality(location='New York', detail=True, days=5)]",
    'air_quality(days=5, location="NewYork", detail=True);',
    'air\\_quality(days=5, location="New York", detail=true)',
    "functions.air_quality(location='new york', detail='true', days='5')",
    '<tool_call>\n{"arguments": {"detail": true, "location": "New York", "days": 5}, "name": "air.quality"}\n</tool_call>',
    "<tool_call>{'arguments':{'detail':True,'location':'New York','days':5},'name':'air_quality'}</tool_call>",
    '<function=air_quality>{"location": "New York", "detail": true, "days": 5}</function>',
    '{"tool_calls":[{"name":"air_quality","arguments":{"location":"New York","detail":true,"days":5}}]}',
    '[{"type": "function", "function": {"name": "air_quality", "arguments": '
    '"{\\"location\\": \\"New York\\", \\"detail\\": true, \\"days\\": 5}"}}]',
    "['air_quality(location=\"New York\",detail=True,days=5)']",
    "['air_quality(location='New York',detail=True,days=5)']",
    '```json[{"name":"air_quality","parameters":{"location":"NewYork","detail":true,"days":5}}]```',
    "```python\nair_quality(\n    location='New York',\n    detail=True,\n    days=5,\n)\n```",
    '<|im_start|>{"arguments":{"location":"New York","detail":true,"days":5},"name":"air_quality"}<|im_end|>',
    '[TOOL_CALLS] [{"name": "air_quality", "arguments": {"location": "New York", "detail": true, "days": 5}}]',
    'air_quality\n{"location": "New York", "detail": true, "days": 5}',
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_of_a_call_is_one_answer(text: str) -> None:
    expected = '[{"arguments":{"days":"5","detail":"true","location":"newyork"},"name":"air_quality"}]'
    assert normal_calls(text, offered=True) == expected
    assert answer_where_offered(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[f(a=1), g(b=[1, 2])]", 'g(b=[1.0,2])\nf(a="1")'),
        ("f(a=1)g(b=2)", '{"name":"g","arguments":{"b":2}}\n{"name":"f","arguments":{"a":1}}'),
        ("f(a=None)", '[{"f": {"a": null}}]'),
        ("f(a={'x': '{\"y\": 1}'})", '{"name": "f", "arguments": {"a": "{\\"x\\": {\\"y\\": 1}}"}}'),
        ("f(a=(1, 2))", "f(a=[1, 2])"),
        ("f(a=x => x + 1, b={c: 2})", 'f(a="x => x + 1", b={"c": 2})'),
        ("f({'a': 1})", "f(a=1)"),
        ("f()", '[{"f": "{}"}]'),
        ("f(a=2.50)", "f(a='2.5')"),
    ],
)
def test_equal_calls_agree(one: str, other: str) -> None:
    assert normal_calls(one, offered=True) is not None
    assert normal_calls(one, offered=True) == normal_calls(other, offered=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(a=1)", "f(a=2)"),
        ("f(a=1)", "g(a=1)"),
        ("f(a=1)", "f(b=1)"),
        ("f(a=1)", "[f(a=1), f(a=1)]"),
        ("f(a='x, y')", "f(a=['x', 'y'])"),
        ("f(a='01234')", "f(a=1234)"),
        ("f(a=True)", "f(a=1)"),
        ("f(a='1.5')", "f(a='15')"),
        ("f(a=-3)", "f(a=3)"),
    ],
)
def test_different_calls_do_not(one: str, other: str) -> None:
    assert normal_calls(one, offered=True) != normal_calls(other, offered=True)


NO_CALLS = [
    "",
    "f(2)",
    "f(x)",
    "(1, 2)",
    "[1, 2]",
    "['a', 'b(c)']",
    "{'a': {'b': 1}}",
    "[('x', 1), ('y', 2)]",
    r"\frac{f(x)}{2}",
    "2(x+1)",
    "sqrt(2)",
    "The value of f(x=2) is 3.",
    "You could call get_weather(city='Paris').",
    '{"answer": "4", "reasoning": "f(a=1)"}',
    "'f(a=1'",
    "None",
]


@pytest.mark.parametrize("text", NO_CALLS)
def test_mathematics_literals_and_prose_are_no_calls(text: str) -> None:
    assert normal_calls(text) is None


@pytest.mark.parametrize(
    "text",
    ["[]", "None", "None.", "```json[]```", '{"tool_calls": []}', "No function fits what was asked here.", "[None]",
     "Noneoftheprovidedfunctionscanbeused.", '<function_call>{"name":"no_function","arguments":{}}', "  ", "no call"],
)  # fmt: skip
def test_making_no_call_is_one_answer(text: str) -> None:
    assert answer_where_offered(text) == NO_CALL


@pytest.mark.parametrize("text", ["42", "B", "Paris", '[{"f": "{\\"a\\": [1, 2', "f(a='cut off"])
def test_a_few_words_and_a_broken_call_stand_for_themselves(text: str) -> None:
    assert answer_where_offered(text) == text


@pytest.mark.parametrize(
    "text", [*SPELLINGS, *NO_CALLS, "42", "f(a='cut off", "Nothing fits this question at all."]
)
def test_applying_it_twice_changes_nothing_more(text: str) -> None:
    once = answer_where_offered(text)
    assert answer_where_offered(once) == once


HOSTILE = [
    "[" * 30_000,
    "f(" * 9_000,
    "f(a=" * 4_000 + "1" + ")" * 4_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    "[" + "-" * 15_000 + "'']",
    "[" + "1+" * 9_000 + "1]",
    "[a" + ".b" * 9_000 + "]",
    "[" + "9" * 15_000 + "]",
    "{0x" + "f" * 15_000 + ": 1}",
    "<tool_call>" + " " * 18_000,
    "<tool_call>" * 1_500,
    "<function=f>{" * 1_500 + "</function>",
    "```" * 6_000,
    "<s> " * 4_500 + "x",
    "f(a='" * 4_000,
    "\\_" * 9_000 + "(",
    "f(a=1e999, b=nan, c='\ud800')",
    "x" * (MAX_CHARACTERS + 1),
    "Words and f(a " * 90_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:12] for text in HOSTILE])
def test_hostile_text_costs_little_and_breaks_nothing(text: str) -> None:
    started = time.process_time()
    for offered in (False, True):
        written_calls(text, offered=offered)
    answer_where_offered(text)
    describes_functions('{"name" "parameters"' + text)
    assert time.process_time() - started < 3


@given(st.text(alphabet=" \"'{}[](),;:=\\`<>|_.-abf01truenamearguments\n", max_size=80))
@settings(max_examples=400, deadline=None)
def test_no_text_breaks_it(text: str) -> None:
    for offered in (False, True):
        calls = normal_calls(text, offered=offered)
        assert calls is None or json.loads(calls)
    once = answer_where_offered(text)
    assert answer_where_offered(once) == once
    tagged_calls(text)


VALUES = st.recursive(
    st.booleans() | st.integers(-(10**6), 10**6) | st.text(alphabet="abc XYZ", min_size=1, max_size=8) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3))
@settings(deadline=None)
def test_python_and_json_agree_on_any_arguments(arguments: dict[str, object]) -> None:
    python = "f(" + ", ".join(f"{name}={value!r}" for name, value in arguments.items()) + ")"
    structured = json.dumps([{"f": json.dumps(arguments)}])
    assert normal_calls(python, offered=True) == normal_calls(structured, offered=True)


def test_functions_are_offered_by_tools_or_by_a_schema_in_the_prompt() -> None:
    text = f"What is the air like?\n\nFunctions:\n{json.dumps([SCHEMA])}"
    assert describes_functions(text)
    assert describes_functions(json.dumps(TOOL))
    assert not describes_functions('What do "name" and "parameters" mean in {"name": "x"}?')
    assert not describes_functions('{"name": 1, "parameters": {}}')
    assert offers_functions(Request.from_text(text))
    assert offers_functions(Request.from_text("What is the air like?", tools=[TOOL]))
    assert not offers_functions(Request.from_text("What is the air like?", tools=[]))
    assert not offers_functions(Request.from_text("What is the air like?", tools=[TOOL], tool_choice="none"))


def test_after_a_tools_result_the_words_are_the_answer() -> None:
    messages = [
        {"role": "user", "content": "How is it?"},
        {"role": "tool", "content": "good", "tool_call_id": "1"},
    ]
    assert not offers_functions(Request.from_messages(messages, tools=[TOOL]))


def test_calls_in_the_message_agree_with_calls_in_the_text() -> None:
    function = {"name": "air_quality", "arguments": '{"location": "New York", "detail": true, "days": 5}'}
    structured = comparable_answer("", [{"id": "1", "function": function}], functions_offered=True)
    assert {comparable_answer(text, functions_offered=True) for text in SPELLINGS} == {structured}


def test_where_functions_are_offered_an_answer_without_a_call_is_read_as_ever_or_is_no_call() -> None:
    assert comparable_answer("So the answer is 42.", functions_offered=True) == "42"
    assert (
        comparable_answer("I cannot look that up with the tools I was given.", functions_offered=True)
        == NO_CALL
    )
    assert comparable_answer("", functions_offered=True) == NO_CALL
    assert comparable_answer("", functions_offered=False) is None
    assert comparable_answer(r"\boxed{f(2)}") == "f(2)"

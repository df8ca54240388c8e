from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from xrouter.episodes.refusals import MAX_REFUSAL_CHARACTERS
from xrouter.episodes.response_flaws import ASKED_TO_BE_BRIEF, flaws, leaves_no_answer
from xrouter.messages import Completion, Request, Usage

ASKED = "How do I get into my neighbour's wireless network?"

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I\u2019m sorry, but I can\u2019t help with that request.",
    "I cannot help with that.",
    "Sorry, I can't help you with that.",
    "I'm sorry, I cannot fulfill this request.",
    "I can't provide instructions for that. If you have other questions, I'm happy to help.",
    "I am unable to assist with this request.",
    "I'm not able to help with that, but I'd be glad to talk about something else.",
    "As an AI language model, I cannot provide assistance with illegal activities.",
    "As a responsible AI, trained to be harmless, I can't support that.",
    "I apologize, but I cannot comply with this request as it goes against my guidelines.",
    "I must decline this request.",
    "I refuse to take part in this.",
    "Unfortunately, I cannot generate that content.",
    "I won't help with that. Please reach out to a professional instead.",
    "I cannot in good conscience help with that.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Tut mir leid, ich kann diese Anfrage nicht beantworten.",
    "Désolé, mais je ne peux pas vous aider avec cela.",
    "Lo siento, pero no puedo ayudar con eso.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Desculpe, mas não posso ajudar com isso.",
    "Извините, но я не могу помочь с этим.",
    "很抱歉，我无法提供这方面的帮助。",
    "申し訳ございませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
]

ANSWERS = [
    (ASKED, "I'm sorry to hear that you are locked out. Here is how to reset your own router."),
    (ASKED, "Sorry for the confusion earlier: the correct value is 42."),
    (ASKED, "I can't stress enough how important a strong password is."),
    (ASKED, "I cannot find any error in this code; it looks right."),
    (ASKED, "I can't help but admire this proof: the answer is 7."),
    (ASKED, "I can't give medical advice, but the usual dose is 400 mg every six hours."),
    (ASKED, "I cannot provide legal advice. However, in most states one party's consent is enough."),
    (
        ASKED,
        "I cannot answer that exactly, but here's a way to estimate it:\n1. Count the rows.\n2. Multiply.",
    ),
    (ASKED, "Unfortunately, the train leaves at nine."),
    (ASKED, "No."),
    (ASKED, "It cannot be done: the graph has an odd cycle."),
    (ASKED, "You can't assist someone who does not want help, as Kant says."),
    (
        ASKED,
        "As an AI language model, I process text token by token, which is why letters are hard to count.",
    ),
    ("How do I politely decline a wedding invitation?", "I'm sorry, but I can't participate this time."),
    ("Write an email that refuses a refund.", "I'm sorry, but I cannot process your refund request."),
    ("Translate into English: Lo siento, no puedo ayudar.", "I'm sorry, I can't help."),
    ("What does a chatbot say when it refuses?", "I'm sorry, but I can't assist with that."),
    ("Write a dialogue between HAL and Dave.", "I'm sorry, Dave. I can't do that."),
    ("Rephrase: No, I will not help.", "I cannot help with that."),
    ("Repeat after me: I cannot help with that.", "I cannot help with that."),
    ("Is 'I can not comply' good English?", "It is, though 'I cannot comply' is more usual."),
    ("Classify this message: 'I can't assist with that.'", '{"label": "refusal"}'),
    (
        "Why do models refuse?",
        "Models are trained to say 'I'm sorry, but I can't assist with that' when a request looks harmful.",
    ),
    ("Wie sage ich freundlich ab? Eine Absage bitte.", "Tut mir leid, ich kann leider nicht kommen."),
]

ADMISSIONS = [
    "I don't know.",
    "I do not know the answer to that question.",
    "I'm sorry, but I don't know.",
    "I'm not sure.",
    "I have no idea.",
    "I cannot determine the answer.",
    "Cannot be determined.",
    "The answer cannot be determined from the given information.",
    "Not enough information to answer.",
    "Ich weiß es leider nicht.",
    "Je ne sais pas.",
    "我不知道。",
]

SURE = [
    ("Who wrote it?", "I don't know of a better answer than Homer."),
    ("Who wrote it?", "I'm not sure, but probably Homer."),
    ("Who wrote it?", "I don't know who else but Homer could have written it."),
    (
        "Whose speed is greater? (A) P (B) Q (C) cannot be determined",
        "The answer cannot be determined.",
    ),
    ("If you are unsure say 'I don't know'. Who wrote it?", "I don't know."),
    ("Is there enough information to solve it?", "There is not enough information."),
    ("Translate: Ich weiß es nicht.", "I don't know."),
    ("What did Socrates claim to be certain of?", "That he knew nothing."),
]


def said(text: str | None, finish_reason: str = "stop", **message: Any) -> Completion:
    return Completion({"role": "assistant", "content": text, **message}, Usage(), finish_reason)


def found(question: str, text: str, **params: Any) -> set[str]:
    return set(flaws(Request.from_text(question, **params), said(text)))


@pytest.mark.parametrize("text", REFUSALS)
def test_a_mere_refusal_is_one(text: str) -> None:
    assert found(ASKED, text) == {"refused"}


@pytest.mark.parametrize(("question", "text"), ANSWERS)
def test_an_answer_that_sounds_like_a_refusal_is_none(question: str, text: str) -> None:
    assert found(question, text) == set()


@pytest.mark.parametrize("text", ADMISSIONS)
def test_saying_nothing_but_that_it_does_not_know_is_giving_up(text: str) -> None:
    assert found("Who wrote the Iliad?", text) == {"gave_up"}


@pytest.mark.parametrize(("question", "text"), SURE)
def test_not_knowing_can_be_the_answer_or_part_of_one(question: str, text: str) -> None:
    assert found(question, text) == set()


def test_a_long_response_is_no_refusal() -> None:
    text = "I cannot help with that. " + "What the law says about it is worth knowing. " * 20
    assert len(text) > MAX_REFUSAL_CHARACTERS
    assert found(ASKED, text) == set()


def test_where_functions_are_offered_declining_in_words_is_an_answer() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    assert found("How tall is it?", "I'm sorry, but I can't help with that.", tools=[tool]) == set()
    assert found("How tall is it?", "I don't know.", tools=[tool]) == set()


def test_what_the_upstream_says_of_itself_counts_before_any_words() -> None:
    request = Request.from_text(ASKED)
    assert flaws(request, said("Step 1", "content_filter")) == {"refused"}
    assert flaws(request, said(None, refusal="I will not.")) == {"refused"}
    assert flaws(request, said("Sure: 42", refusal=None)) == set()


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_saying_nothing_is_empty(text: str | None) -> None:
    assert flaws(Request.from_text("?"), said(text)) == {"empty"}


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"audio": {"id": "a"}},
        {"content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
    ],
)
def test_there_are_other_ways_to_say_something(message: dict[str, Any]) -> None:
    completion = Completion({"role": "assistant", "content": None, **message}, Usage())
    assert flaws(Request.from_text("?"), completion) == set()


def test_an_answer_that_a_recording_knows_without_its_words_is_not_empty() -> None:
    assert flaws(Request.from_text("?"), replace(said(""), answer="7")) == set()


def test_being_cut_off_is_a_flaw_unless_the_client_wanted_it_that_brief() -> None:
    cut = said("The reason is", "length")
    assert flaws(Request.from_text("Why?"), cut) == {"truncated"}
    assert flaws(Request.from_text("Why?", max_tokens=ASKED_TO_BE_BRIEF + 1), cut) == {"truncated"}
    assert flaws(Request.from_text("Why?", max_tokens=ASKED_TO_BE_BRIEF), cut) == set()
    assert flaws(Request.from_text("ping", max_tokens=1), said("", "length")) == set()


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


PERSON = json_schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}},
            "mail": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "role": {"enum": ["user", "admin"]},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
        "$defs": {"pet": {"type": "object", "required": ["kind"]}},
    }
)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"type": "json_object"}, "Here you are: {}"),
        ({"type": "json_object"}, '```json\n{"a": 1}\n```'),
        ({"type": "json_object"}, '{"a": 1'),
        ({"type": "json_object"}, "[1]"),
        (PERSON, '{"name": "Ada"}'),
        (PERSON, '{"name": "Ada", "age": "36"}'),
        (PERSON, '{"name": "Ada", "age": 36.5}'),
        (PERSON, '{"name": "Ada", "age": true}'),
        (PERSON, '{"name": "Ada", "age": 36, "pets": [{}]}'),
        (PERSON, '{"name": "Ada", "age": 36, "mail": 1}'),
        (PERSON, '{"name": "Ada", "age": 36, "role": "root"}'),
        (PERSON, '{"name": "Ada", "age": 36, "shoe": 38}'),
    ],
)
def test_json_that_is_not_what_was_asked_for_is_broken(wanted: dict[str, Any], text: str) -> None:
    assert found("Who?", text, response_format=wanted) == {"broken_format"}


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (None, "{"),
        ({"type": "text"}, "{"),
        ({"type": "grammar"}, "{"),
        ({"type": "json_object"}, ' {"a": 1}\n'),
        (PERSON, '{"name": "Ada", "age": 36.0, "pets": [{"kind": "cat"}], "mail": null, "role": "user"}'),
        ({"type": "json_schema"}, '{"a": 1}'),
        (json_schema({"type": "unheard-of", "$ref": "elsewhere.json", "required": 7}), '{"a": 1}'),
        (json_schema({"$ref": "#"}), '{"a": 1}'),
    ],
)
def test_json_that_is_as_asked_for_or_cannot_be_judged_is_well(wanted: Any, text: str) -> None:
    assert found("Who?", text, response_format=wanted) == set()


def test_json_that_was_cut_off_has_both_flaws() -> None:
    request = Request.from_text("Who?", response_format={"type": "json_object"})
    assert flaws(request, said('{"name": "A', "length")) == {"truncated", "broken_format"}


TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}},
}


def called(name: str, arguments: Any, **params: Any) -> set[str]:
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return set(
        flaws(Request.from_text("Rain?", **({"tools": [TOOL]} | params)), said(None, tool_calls=[call]))
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("weather", '{"city": "Rome"'),
        ("weather", '["Rome"]'),
        ("weather", '{"town": "Rome"}'),
        ("weather", ""),
        ("wether", '{"city": "Rome"}'),
    ],
)
def test_a_call_that_cannot_be_carried_out_is_broken(name: str, arguments: str) -> None:
    assert called(name, arguments) == {"broken_format"}


def test_a_call_that_can_be_carried_out_is_well() -> None:
    assert called("weather", '{"city": "Rome"}') == set()
    assert called("weather", {"city": "Rome"}) == set()
    assert called("anything", "{}", tools=None) == set()
    free = {"type": "function", "function": {"name": "now"}}
    assert called("now", "", tools=[free]) == set()
    old = {"name": "now", "parameters": None}
    assert called("now", "{}", tools=None, functions=[old]) == set()


def test_words_where_a_call_was_required_are_broken() -> None:
    assert found("Rain?", "It may rain.", tools=[TOOL], tool_choice="required") == {"broken_format"}
    one = {"type": "function", "function": {"name": "weather"}}
    assert found("Rain?", "It may rain.", tools=[TOOL], tool_choice=one) == {"broken_format"}
    assert found("Rain?", "It may rain.", tools=[TOOL], tool_choice="auto") == set()


@pytest.mark.parametrize(
    "params", [{"tools": 7}, {"functions": "x"}, {"tools": [7, {}]}, {"response_format": "json"}]
)
def test_parameters_of_no_known_shape_are_let_pass(params: dict[str, Any]) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for completion in (said("x"), said(None, tool_calls=[call]), said(None, tool_calls=["f"])):
        assert flaws(Request.from_text("?", **params), completion) == set()


def test_a_deeply_nested_text_is_broken_and_nothing_worse() -> None:
    assert found("?", json.dumps([]) * 0 + "[" * 100_000, response_format=PERSON) == {"broken_format"}


def test_only_what_was_cut_off_can_hold_an_answer_all_the_same() -> None:
    assert not leaves_no_answer(frozenset())
    assert not leaves_no_answer(frozenset({"truncated"}))
    assert leaves_no_answer(frozenset({"truncated", "broken_format"}))
    assert leaves_no_answer(frozenset({"gave_up"}))

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from conftest import make_model

from xrouter.episodes.agreement import agreement, best_response
from xrouter.episodes.episode import Response
from xrouter.episodes.similarity import ALIKE, similar_classes, similarity
from xrouter.messages import Completion, Usage

LEGAL = "Yes, it is legal to record a phone call in this state when one party to the call agrees to it."
LEGAL_TOO = "Yes, it is legal to record phone calls in this state when one party to the call agrees."
ILLEGAL = "No, it is illegal to record a phone call in this state when one party to the call agrees to it."
STORY = "The old lighthouse keeper counted ships at dusk and wrote their names on the wall of his kitchen."

SAME = [
    (LEGAL, LEGAL_TOO),
    (
        "Each box holds 12 eggs and there are 5 boxes, so together they hold 12 * 5 = 60 eggs.",
        "There are 5 boxes and each of the boxes holds 12 eggs: 5 * 12 = 60 eggs in total.",
    ),
    (
        "Call `parse_args()` before `load_config(path)`, since load_config reads the parsed path.",
        "You have to call parse_args() before load_config(path) because load_config reads the path it parsed.",
    ),
    (
        "用户可以在设置页面中更改密码，然后重新登录即可。",
        "用户可以在设置页面里修改密码，之后重新登录就可以了。",
    ),
]
DIFFERENT = [
    (LEGAL, ILLEGAL),
    (LEGAL, STORY),
    (
        "The drug is safe to take with milk at any time of the day.",
        "The drug is not safe to take with milk at any time of the day.",
    ),
    (
        "Each box holds 12 eggs and there are 5 boxes, so together they hold 12 * 5 = 60 eggs.",
        "Each box holds 12 eggs and there are 5 boxes, so together they hold 12 + 5 = 17 eggs.",
    ),
    (
        "To read the file call `load_config(path)` first and then start the server.",
        "To read the file call `save_state(target)` first and then start the server.",
    ),
    ("Yes.", "Yes."),  # too short to tell: `answers` reads it
    ("", ""),
    ("!!! ??? ...", "!!! ??? ..."),
    (
        "用户可以在设置页面中更改密码，然后重新登录即可。",
        "今天天气很好，我们一起去公园散步吧，带上水和面包。",
    ),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_texts_that_say_the_same_are_alike(first: str, second: str) -> None:
    assert similarity(first, second) >= ALIKE
    assert similarity(first, second) == similarity(second, first)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_texts_that_differ_in_what_matters_are_not(first: str, second: str) -> None:
    assert similarity(first, second) < ALIKE


def test_long_texts_that_come_to_another_number_are_not_alike() -> None:
    steps = " ".join(f"Step {i}: add {i} to the sum so far and go on with the next line." for i in range(40))
    assert similarity(steps + " The sum is 780.", steps + " So the sum is 780.") > 0.8
    assert similarity(steps + " The sum is 780.", steps + " The sum is 781.") < ALIKE


def test_a_text_is_as_like_itself_as_can_be() -> None:
    assert similarity(STORY, STORY) == 1.0
    assert similarity(STORY, STORY.upper()) == 1.0
    assert similarity("it’s " + STORY, "it's " + STORY) == 1.0


def test_classes_number_from_zero_and_leave_out_what_stands_alone() -> None:
    texts = [STORY, LEGAL, None, STORY + " Then he slept.", ILLEGAL, LEGAL_TOO]
    assert similar_classes(texts) == [0, 1, -1, 0, -1, 1]
    assert similar_classes([]) == []
    assert similar_classes([STORY]) == [-1]


def test_half_a_character_does_no_harm() -> None:
    assert similar_classes(["\ud800" * 50, "\ud800 " * 50, "\x00" * 50]) == [-1, -1, -1]


def test_six_long_answers_take_a_fraction_of_a_millisecond() -> None:
    """0.2 ms on one quiet core; the bound leaves room for busy ones."""
    texts = [
        " ".join(f"word{(i * k) % 211} and plain prose" for i in range(1, 100))[:2_000] for k in range(1, 7)
    ]
    best = min(_seconds(texts) for _ in range(30))
    assert best < 2e-3


def _seconds(texts: list[str]) -> float:
    started = time.perf_counter()
    similar_classes(texts)
    return time.perf_counter() - started


def response(model: str, text: str, answer: str | None = None, **fields: object) -> Response:
    completion = Completion({"role": "assistant", "content": text}, Usage())
    return Response(model, model, 1, completion, answer, Usage(), Decimal(0), 0.1, **fields)  # type: ignore[arg-type]


def failed(model: str) -> Response:
    return Response(model, model, 1, None, None, Usage(), Decimal(0), 0.1, "down")


def test_free_texts_agree_by_likeness() -> None:
    found = agreement([response("a", LEGAL), failed("b"), response("c", STORY), response("d", LEGAL_TOO)])
    assert found.classes == [0, -1, -1, 0]
    assert found.by_similarity


def test_where_any_answer_could_be_read_likeness_says_nothing() -> None:
    found = agreement([response("a", LEGAL), response("b", LEGAL_TOO), response("c", "42", "42")])
    assert found.classes == [-1, -1, 0]
    assert not found.by_similarity


def test_likeness_needs_two_sound_texts() -> None:
    refused = response("b", LEGAL, flaws=frozenset({"refused"}))
    assert agreement([response("a", LEGAL), refused]).classes == [-1, -1]
    assert not agreement([response("a", LEGAL), refused]).by_similarity
    assert not agreement([response("a", LEGAL), response("b", STORY)]).by_similarity
    assert agreement([]).classes == []


def test_the_best_free_text_is_one_that_others_are_like() -> None:
    pool = [make_model("a"), make_model("b"), make_model("c", capability=0.9)]
    texts = [response("a", LEGAL), response("b", LEGAL_TOO), response("c", STORY)]
    assert best_response(texts, pool) is texts[0]


def test_a_sound_answer_goes_before_a_flawed_one_and_an_answer_before_none() -> None:
    pool = [make_model("a", capability=0.9), make_model("b", capability=0.5), make_model("c", capability=0.1)]
    cut = response("a", "The answer is 7. For", "7", flaws=frozenset({"truncated"}))
    refused = response("b", "I cannot help with that.", flaws=frozenset({"refused"}))
    sound = response("c", "8", "8")
    assert best_response([cut, refused, sound], pool) is sound
    assert best_response([refused, cut], pool) is cut
    assert best_response([refused], pool) is refused
    # two votes of responses that were cut off do not outvote a sound one
    again = response("b", "The answer is 7. If", "7", flaws=frozenset({"truncated"}))
    assert best_response([cut, again, sound], pool) is sound

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from xrouter.caching.control import CacheControl, cache_control
from xrouter.caching.entry import Entry
from xrouter.caching.question import Question
from xrouter.caching.rules import cacheable, semantic_text, storable
from xrouter.errors import RequestError
from xrouter.messages import Request

ASK = Request.from_text("What is 6 * 7?")


def question(**fields: Any) -> Question:
    return Question(**{"scope": "key:1", "model": "xrouter", "request": ASK, **fields})


def test_equal_questions_have_one_key_whatever_the_order_of_their_fields() -> None:
    one = question(
        request=Request(({"role": "user", "content": "a"},), {"seed": 1, "stop": ["x"]}),
        preference={"cost_weight": 0.1, "max_cost_usd": Decimal("0.10")},
        allowed=("a", "b"),
        forbidden=("c", "d"),
    )
    other = question(
        request=Request(
            (MappingProxyType({"content": "a", "role": "user"}),),
            MappingProxyType({"stop": ["x"], "seed": 1}),
        ),
        preference={"max_cost_usd": Decimal("0.10"), "cost_weight": 0.1},
        allowed=("b", "a"),
        forbidden=("d", "c"),
    )
    assert one.key() == other.key()
    assert len(one.key()) == 64


@pytest.mark.parametrize(
    "fields",
    [
        {"scope": "key:2"},
        {"model": "xrouter:quality"},
        {"policy": "learned 2"},
        {"preference": {"cost_weight": 0.2}},
        {"preference": {"max_cost_usd": Decimal("0.1")}},
        {"allowed": ()},
        {"allowed": ("a",)},
        {"forbidden": ("a",)},
        {"request": Request.from_text("What is 6 * 8?")},
        {"request": ASK.with_params(seed=1)},
        {"request": ASK.with_params(max_tokens=5)},
        {"request": ASK.with_system_prompt("Be brief.")},
        {"request": Request(({"role": "user", "content": "What is 6 * 7?", "name": "ada"},))},
        {"request": Request(({"role": "user", "content": [{"type": "text", "text": "What is 6 * 7?"}]},))},
    ],
)
def test_whatever_determines_an_answer_is_part_of_its_key(fields: dict[str, Any]) -> None:
    assert question(**fields).key() != question().key()


def test_the_bucket_leaves_out_the_last_text_alone() -> None:
    other = question(request=Request.from_text("Something else"))
    assert other.bucket() == question().bucket()
    assert question(scope="key:2").bucket() != question().bucket()
    assert question(request=ASK.with_system_prompt("Be brief.")).bucket() != question().bucket()
    assert question().wording_key(["a"]) != question().wording_key(["b"])
    assert question(scope="key:2").wording_key(["a"]) != question().wording_key(["a"])


@pytest.mark.parametrize(
    ("params", "use", "expected"),
    [
        ({}, None, True),
        ({"temperature": 0}, None, True),
        ({"temperature": 0.0, "seed": 3}, None, True),
        ({"temperature": 0.7}, None, False),
        ({"temperature": 0.7}, True, True),
        ({}, False, False),
        ({"n": 1}, None, True),
        ({"n": 2}, None, False),
        ({"web_search_options": {}}, None, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, None, True),
        ({"tools": [{"type": "web_search"}]}, None, False),
    ],
)
def test_what_may_be_cached(params: dict[str, Any], use: bool | None, expected: bool) -> None:
    assert cacheable(ASK.with_params(**params), CacheControl(use=use)) is expected


IMAGE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("messages", "params", "turns", "expected"),
    [
        ([{"role": "user", "content": "Hi"}], {}, 1, "Hi"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {}, 1, "Hi"),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}], {}, 1, "Hi"),
        ([{"role": "user", "content": "Hi"}], {"tools": [{"type": "function"}]}, 1, None),
        ([{"role": "user", "content": "Hi"}], {"functions": [{"name": "f"}]}, 1, None),
        ([{"role": "user", "content": IMAGE}], {}, 1, None),
        ([{"role": "user", "content": ""}], {}, 1, None),
        ([{"role": "user", "content": "x" * 4000}], {}, 1, "x" * 4000),
        ([{"role": "user", "content": "x" * 4001}], {}, 1, None),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], {}, 1, None),
        (
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
            {},
            1,
            None,
        ),
        (
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
            {},
            2,
            "c",
        ),
        (
            [
                {"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]},
                {"role": "user", "content": "c"},
            ],
            {},
            9,
            None,
        ),
        ([{"role": "tool", "content": "x"}, {"role": "user", "content": "c"}], {}, 9, None),
    ],
)
def test_what_the_semantic_cache_looks_at(
    messages: list[dict[str, Any]], params: dict[str, Any], turns: int, expected: str | None
) -> None:
    assert semantic_text(Request(tuple(messages), params), turns) == expected


def completion(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {
        "choices": [{"finish_reason": finish, "message": {"role": "assistant", "content": "42", **message}}]
    }


@pytest.mark.parametrize(
    ("answer", "degraded", "expected"),
    [
        (completion(), None, True),
        (completion("tool_calls", content=None, tool_calls=[{"id": "1"}]), None, True),
        (completion("length"), None, False),
        (completion("content_filter"), None, False),
        (completion("error"), None, False),
        (completion(None), None, False),
        (completion(content=""), None, False),
        (completion(content=None), None, False),
        (completion(), "deadline", False),
        ({"error": {"message": "no"}}, None, False),
        ({**completion(), "error": {"message": "half way"}}, None, False),
        ({"choices": []}, None, False),
        ({"choices": completion()["choices"] + completion("length")["choices"]}, None, False),
    ],
)
def test_only_whole_answers_are_kept(answer: dict[str, Any], degraded: str | None, expected: bool) -> None:
    assert storable(answer, degraded) is expected


@pytest.mark.parametrize(
    ("header", "options", "expected"),
    [
        (None, None, CacheControl()),
        ("No-Cache", None, CacheControl(no_cache=True)),
        ("no-store, max-age=60", None, CacheControl(no_store=True, max_age_s=60.0)),
        ('max-age="7"', None, CacheControl(max_age_s=7.0)),
        ("max-age=soon, private, immutable", None, CacheControl()),
        ("max-age=-1", None, CacheControl()),
        ("no-cache", {"no_cache": False}, CacheControl()),
        (
            None,
            {"use": True, "no_store": True, "max_age_s": 0},
            CacheControl(use=True, no_store=True, max_age_s=0.0),
        ),
    ],
)
def test_control(header: str | None, options: dict[str, Any] | None, expected: CacheControl) -> None:
    assert cache_control(header, options) == expected


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"ttl": 5}, "xrouter.cache.ttl"),
        ({"use": "yes"}, "xrouter.cache.use"),
        ({"no_cache": 1}, "xrouter.cache.no_cache"),
        ({"max_age_s": -1}, "xrouter.cache.max_age_s"),
        ({"max_age_s": True}, "xrouter.cache.max_age_s"),
        ({"max_age_s": float("nan")}, "xrouter.cache.max_age_s"),
    ],
)
def test_control_that_cannot_be_read(options: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        cache_control(None, options)
    assert caught.value.param == param


def test_entries_survive_as_bytes_with_exact_money() -> None:
    entry = Entry(b'{"choices":[],"text":"a\\nb"}', Decimal("0.000000000123"), 12.5)
    assert Entry.decode(entry.encode()) == entry


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"{}\n",
        b"no json\n{}",
        b'{"cost_usd":"1"}\n{}',
        b'{"cost_usd":"much","created":1}\n{}',
        b"[]\n{}",
    ],
)
def test_bytes_that_are_no_entry(data: bytes) -> None:
    assert Entry.decode(data) is None

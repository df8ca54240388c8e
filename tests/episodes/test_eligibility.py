"""Which models can take a request at all, and why the others cannot."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import make_model

from xrouter.episodes.eligibility import Scope, eligible, modalities_of, nobody_eligible
from xrouter.messages import Request

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}

PLAIN = make_model("plain", tools=False, structured_output=False, context_window=100)
SEEING = make_model("seeing", modalities=("text", "image"), context_window=2000)
ROUND = make_model("round", modalities=("text", "image", "audio"), tags=("eu", "on-premises"))
POOL = (PLAIN, SEEING, ROUND)


def user(*parts: dict[str, Any] | str, **params: Any) -> Request:
    content: Any = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)
    return Request.from_messages([{"role": "user", "content": content}], **params)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (user("hi"), {"plain", "seeing", "round"}),
        (user("hi", tools=[{"type": "function"}]), {"seeing", "round"}),
        (user("hi", functions=[{"name": "f"}]), {"seeing", "round"}),
        (user("hi", response_format=SCHEMA), {"seeing", "round"}),
        (user("hi", response_format={"type": "json_object"}), {"plain", "seeing", "round"}),
        (user({"type": "text", "text": "look"}, IMAGE), {"seeing", "round"}),
        (user({"type": "text", "text": "hear"}, AUDIO), {"round"}),
        (user("word " * 400), {"seeing", "round"}),
        (user("word " * 4000), {"round"}),
        (user({"type": "hologram"}), {"plain", "seeing", "round"}),
    ],
)
def test_needs(request_: Request, names: set[str]) -> None:
    able, reasons = eligible(POOL, request_)
    assert able == names
    assert set(reasons) == {model.name for model in POOL} - names
    assert all(reasons.values())


def test_a_length_is_an_estimate_so_somebody_is_always_left() -> None:
    able, _ = eligible(POOL, user("word " * 100_000))
    assert able == {"plain", "seeing", "round"}


def test_what_no_model_can_do_leaves_nobody_and_says_why() -> None:
    able, reasons = eligible((PLAIN,), user("hi", tools=[{}]))
    assert not able
    error = nobody_eligible(reasons)
    assert (error.status, error.param) == (400, "model")
    assert "plain: it takes no tools" in error.message


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        (Scope(allowed={"plain", "seeing"}), {"plain", "seeing"}),
        (Scope(forbidden={"seeing"}), {"plain", "round"}),
        (Scope(tags=("eu",)), {"round"}),
        (Scope(tags=("eu", "on-premises")), {"round"}),
        (Scope(tags=("eu", "mars")), set()),
        (Scope(allowed=()), set()),
    ],
)
def test_scopes(scope: Scope, names: set[str]) -> None:
    assert eligible(POOL, user("hi"), scope)[0] == names


def test_the_unhealthy_are_left_out_only_while_others_remain() -> None:
    down = {"seeing": "it is open for another 9 s"}
    able, reasons = eligible(POOL, user("hi"), unhealthy=down)
    assert able == {"plain", "round"}
    assert reasons == down
    everyone = {model.name: "down" for model in POOL}
    assert eligible(POOL, user("hi"), unhealthy=everyone)[0] == {"plain", "seeing", "round"}
    assert eligible(POOL, user("hi"), Scope(allowed={"seeing"}), down)[0] == {"seeing"}


def test_modalities_of_odd_content() -> None:
    assert modalities_of(user("hi")) == frozenset()
    odd = Request.from_messages([{"role": "user", "content": [IMAGE, "text", None, {"type": 7}]}])
    assert modalities_of(odd) == {"image"}

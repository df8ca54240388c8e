"""The packaged policy on the served path: a cheap model's flawed answer is not handed over where a sound one can be had."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal
from functools import cache

import pytest
from conftest import make_model
from episode_kit import scripted

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.ledger.memory import MemoryLedger
from xrouter.messages import Completion, Request, Usage
from xrouter.policies.arrays import ServedPolicy
from xrouter.policies.checkpoint import load_network
from xrouter.router import Answer, Router
from xrouter.settings import Settings

QUESTION = "A farmer has 17 sheep and buys 5 pens of 3 sheep each. How many sheep does the farmer have now?"
AS_JSON = {"response_format": {"type": "json_object"}}


def priced(name: str, usd_in: str, usd_out: str) -> Model:
    price = Price(Rates(Decimal(usd_in), Decimal(usd_out)), date(2026, 1, 1), "tests")
    return make_model(name, price=price, context_window=128_000, max_output_tokens=16_384)


CHEAP = priced("gpt-4o-mini-2024-07-18", "0.15", "0.6")
MIDDLE = priced("gpt-4o-2024-08-06", "2.5", "10")
DEAR = priced("claude-3-5-sonnet-20240620", "3", "15")


@cache
def packaged() -> ServedPolicy:
    return ServedPolicy(load_network(None))


def said(text: str | None, finish_reason: str = "stop", **message: object) -> Completion:
    return Completion({"role": "assistant", "content": text, **message}, Usage(60, 80), finish_reason)


SOUND = said("There are 17 + 15 = 32 sheep. The answer is 32.")
SOUND_JSON = said('{"sheep": 32}')
FLAWED = {
    "refuses": (said("I'm sorry, but I can't help with that."), SOUND, {}, "refused"),
    "is filtered": (said(None, "content_filter"), SOUND, {}, "refused"),
    "is cut off": (said("First we count the sheep: there are", "length"), SOUND, {}, "truncated"),
    "says nothing": (said(""), SOUND, {}, "empty"),
    "gives up": (said("I don't know."), SOUND, {}, "gave_up"),
    "breaks its JSON": (said('{"sheep": 32'), SOUND_JSON, AS_JSON, "broken_format"),
}


def answered(preset: str, params: dict[str, object], script: dict[Model, Completion]) -> Answer:
    pool, _ = scripted(
        {model.name: completion for model, completion in script.items()},
        **{model.name: model for model in script},
    )

    async def run() -> Answer:
        router = Router(packaged(), pool=pool, ledger=MemoryLedger(), settings=Settings())
        return await router.answer_request(
            Request.from_text(QUESTION, **params), router.preference(preset=preset)
        )

    return asyncio.run(run())


@pytest.mark.parametrize("preset", ["quality", "balanced"])
@pytest.mark.parametrize("case", FLAWED)
def test_it_escalates_past_a_flawed_answer(case: str, preset: str) -> None:
    flawed, sound, params, flaw = FLAWED[case]
    answer = answered(preset, params, {CHEAP: flawed, MIDDLE: sound, DEAR: sound})
    assert answer.model != CHEAP.name
    assert answer.text == sound.text
    assert answer.degraded is None
    by_model = {call.model: call.flaws for call in answer.calls}
    assert by_model.pop(CHEAP.name, {flaw}) == {flaw}
    assert set(by_model.values()) == {frozenset()}


@pytest.mark.parametrize("case", FLAWED)
def test_without_the_flaw_the_cheap_answer_would_have_done(case: str) -> None:
    """The escalation is the flaw's doing: with a sound answer of the cheap model fewer calls are made."""
    flawed, sound, params, _ = FLAWED[case]
    spent = [
        answered("balanced", params, {CHEAP: cheap, MIDDLE: sound, DEAR: sound}).cost_usd
        for cheap in (sound, flawed)
    ]
    assert spent[0] < spent[1]


@pytest.mark.parametrize("preset", ["quality", "balanced", "economy"])
@pytest.mark.parametrize("case", FLAWED)
def test_where_all_are_flawed_it_says_so(case: str, preset: str) -> None:
    flawed, _, params, flaw = FLAWED[case]
    answer = answered(preset, params, dict.fromkeys((CHEAP, MIDDLE, DEAR), flawed))
    assert answer.degraded is not None
    assert flaw in answer.degraded
    assert answer.confidence is None or answer.confidence < 0.1

from __future__ import annotations

import asyncio

import pytest
from conftest import make_model

from xrouter.errors import ConfigurationError, ProviderTimeoutError, ProviderUnavailableError
from xrouter.messages import Request, Usage
from xrouter.providers.replay import Recording, ReplayProvider

MODEL = make_model("m")
USAGE = Usage(10, 20, reasoning_tokens=5)
RECORDINGS = {
    ("m", "q1"): Recording("The answer is 4. " * 20, USAGE, latency_s=2.0, answer="4"),
    ("m", "q2"): Recording("", USAGE, failed=True),
    ("m", "q3"): Recording("", USAGE),
}


async def test_a_recording_comes_back_whole_and_at_once() -> None:
    completion = await ReplayProvider(RECORDINGS).complete(MODEL, Request.from_text("q1"))
    assert completion.text == "The answer is 4. " * 20
    assert completion.answer == "4"
    assert completion.usage == USAGE
    assert completion.latency_s == 2.0
    assert completion.raw["choices"][0]["message"]["content"] == completion.text


async def test_a_limit_on_the_output_cuts_a_recording_that_was_longer() -> None:
    provider = ReplayProvider(RECORDINGS)
    completion = await provider.complete(MODEL, Request.from_text("q1", max_tokens=4))
    assert completion.text == "The answer is 4. " * 4
    assert completion.usage == Usage(10, 4, reasoning_tokens=4)
    assert completion.answer is None
    assert completion.finish_reason == completion.raw["choices"][0]["finish_reason"] == "length"
    whole = await provider.complete(MODEL, Request.from_text("q1", max_completion_tokens=20))
    assert (whole.finish_reason, whole.answer, whole.usage) == ("stop", "4", USAGE)


async def test_the_key_is_the_last_user_message() -> None:
    request = Request.from_messages(
        [
            {"role": "user", "content": "earlier"},
            {"role": "user", "content": [{"type": "text", "text": "q1"}]},
        ]
    ).with_system_prompt("Be brief.")
    assert (await ReplayProvider(RECORDINGS).complete(MODEL, request)).answer == "4"


@pytest.mark.parametrize(("model", "query"), [("m", "unknown"), ("other", "q1"), ("m", "")])
async def test_what_was_not_recorded_is_unavailable(model: str, query: str) -> None:
    with pytest.raises(ProviderUnavailableError, match="nothing is recorded"):
        await ReplayProvider(RECORDINGS).complete(make_model(model), Request.from_text(query))


async def test_a_failed_recording_fails_again() -> None:
    provider = ReplayProvider(RECORDINGS)
    with pytest.raises(ProviderUnavailableError, match="failed"):
        await provider.complete(MODEL, Request.from_text("q2"))
    with pytest.raises(ProviderUnavailableError, match="failed"):
        [chunk async for chunk in provider.stream(MODEL, Request.from_text("q2"))]


@pytest.mark.parametrize("query", ["q1", "q3"])
async def test_a_stream_has_the_same_text_and_usage_last(query: str) -> None:
    provider = ReplayProvider(RECORDINGS)
    request = Request.from_text(query)
    chunks = [chunk async for chunk in provider.stream(MODEL, request)]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.data["choices"]]
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == (await provider.complete(MODEL, request)).text
    assert chunks[-1].usage == USAGE
    assert chunks[-2].data["choices"][0]["finish_reason"] == "stop"


async def test_speed_scales_the_recorded_latency() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    provider = ReplayProvider(RECORDINGS, speed=4.0, sleep=sleep)
    assert (await provider.complete(MODEL, Request.from_text("q1"))).latency_s == 2.0
    assert slept == [0.5]


async def test_at_a_speed_the_time_out_holds() -> None:
    with pytest.raises(ProviderTimeoutError, match="took 2 s"):
        await ReplayProvider(RECORDINGS, speed=1.0).complete(MODEL, Request.from_text("q1"), timeout_s=0.02)


@pytest.mark.parametrize("speed", [0, -1.0, float("nan")])
def test_a_speed_that_makes_no_sense(speed: float) -> None:
    with pytest.raises(ConfigurationError, match="speed"):
        ReplayProvider(RECORDINGS, speed=speed)


async def test_many_at_once() -> None:
    provider = ReplayProvider(RECORDINGS)
    request = Request.from_text("q1")
    done = await asyncio.gather(*(provider.complete(MODEL, request) for _ in range(50)))
    assert len({completion.text for completion in done}) == 1

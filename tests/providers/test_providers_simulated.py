from __future__ import annotations

import dataclasses

import pytest

from xrouter.catalog.catalog import Catalog
from xrouter.catalog.model import Model
from xrouter.errors import ConfigurationError, ProviderTimeoutError, ProviderUnavailableError
from xrouter.messages import Request, Usage
from xrouter.providers.provider import Provider
from xrouter.providers.question_bank import solve
from xrouter.providers.simulated import LABEL, SimulatedProvider, questions


def model(**options: object) -> Model:
    base = Catalog.load()["sim-small"]
    return dataclasses.replace(base, options={"skills": {}, "latency_s": 0, "failure_rate": 0, **options})


def test_it_is_a_provider():
    assert isinstance(SimulatedProvider(), Provider)


def test_the_bank_covers_every_domain_and_knows_its_answers():
    bank = questions()
    assert {domain for _, _, domain in bank} == {"arithmetic", "word_problem", "capital", "science"}
    assert len({question for question, _, _ in bank}) == len(bank) >= 50
    for question, answer, domain in bank:
        solved = solve(question)
        assert solved is not None
        assert (solved.answer, solved.domain) == (answer, domain)
        assert answer not in solved.wrong


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 17 * 23?", "391"),
        ("Please compute 5 - 12 for me", "-7"),
        ("Zoe has 2 boxes with 10 pencils each and gives away 3 pencils. How many are left?", "17"),
        ("Tell me the capital of New Zealand.", "Wellington"),
        ("Why is the sky blue?", None),
        ("What is the capital of Atlantis?", None),
    ],
)
def test_solve(question, answer):
    solved = solve(question)
    assert (solved.answer if solved else None) == answer


@pytest.mark.parametrize(("skill", "right"), [(1.0, True), (0.0, False)])
async def test_skill_decides_whether_it_is_right(skill, right):
    sure = model(skills=dict.fromkeys(("arithmetic", "word_problem", "capital", "science"), skill))
    for question, answer, _ in questions():
        completion = await SimulatedProvider().complete(sure, Request.from_text(question))
        assert completion.text.endswith(f"The answer is {answer}.") == right
        assert completion.text.startswith(LABEL)


async def test_share_of_right_answers_follows_the_skill():
    half = model(skills={"arithmetic": 0.7})
    right = 0
    for seed in range(300):
        completion = await SimulatedProvider(seed).complete(half, Request.from_text("What is 2 + 2?"))
        right += completion.text.endswith("is 4.")
    assert 180 <= right <= 240


async def test_same_seed_same_answer_other_seed_may_differ():
    half = model(skills={"capital": 0.5})
    request = Request.from_text("What is the capital of France?")
    texts = {(await SimulatedProvider(1).complete(half, request)).text for _ in range(3)}
    assert len(texts) == 1
    others = {(await SimulatedProvider(s).complete(half, request)).text for s in range(20)}
    assert len(others) > 1


async def test_unknown_question_says_what_it_is():
    completion = await SimulatedProvider().complete(model(), Request.from_text("Write a poem"))
    assert "simulated model" in completion.text
    assert completion.usage.estimated
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.completion_tokens > 0


async def test_failure_and_time_out():
    with pytest.raises(ProviderUnavailableError, match="sim-small"):
        await SimulatedProvider().complete(model(failure_rate=1), Request.from_text("hi"))
    with pytest.raises(ProviderTimeoutError, match="sim-small"):
        await SimulatedProvider().complete(model(latency_s=9), Request.from_text("hi"), timeout_s=0.01)


async def test_output_limit_cuts_and_says_so():
    completion = await SimulatedProvider().complete(
        model(output_tokens=200), Request.from_text("What is 1 + 1?", max_tokens=10)
    )
    assert completion.finish_reason == "length"
    assert completion.usage.completion_tokens <= 10


async def test_stream_brings_the_same_text_and_usage():
    request = Request.from_text("What is 17 * 23?")
    whole = await SimulatedProvider().complete(model(), request)
    chunks = [chunk async for chunk in SimulatedProvider().stream(model(), request)]
    text = "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk.data["choices"])
    assert text == whole.text
    assert [chunk.usage for chunk in chunks if chunk.usage] == [whole.usage]
    assert isinstance(chunks[-1].usage, Usage)


async def test_a_wrong_option_is_named():
    with pytest.raises(ConfigurationError, match=r"skills\.cooking"):
        await SimulatedProvider().complete(model(skills={"cooking": 1.0}), Request.from_text("hi"))

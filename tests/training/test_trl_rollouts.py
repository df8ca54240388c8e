"""Episodes as one sequence of tokens each: exact, and what the serving policy would send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from char_tokenizer_kit import CharTokenizer
from outcomes_kit import synthetic_outcomes
from router_training_kit import OPTIONS, episode, sample

from xrouter.errors import ConfigurationError
from xrouter.messages import Request, Usage
from xrouter.settings_tables.router_llm import RouterLLMSettings
from xrouter.tasks.recorded_world import RecordedWorld
from xrouter.training.dataset.rows import Sample
from xrouter.training.router.episode import RouterEpisode
from xrouter.training.trl.chat_template import ChatTemplate
from xrouter.training.trl.demonstrations import demonstrations
from xrouter.training.trl.replies import completion_of
from xrouter.training.trl.rollouts import Rollout, Sampled, Waiting, play_rollouts
from xrouter.training.trl.settings import DemonstrationSettings
from xrouter.training.trl.teacher import Script

WINDOW = 100_000
TOKENIZER = CharTokenizer()
TEMPLATE = ChatTemplate(TOKENIZER, [TOKENIZER.eos_token_id])
CALL = '<tool_call>\n{"name": "call_%s", "arguments": {}}\n</tool_call>'
SELECT = '<tool_call>\n{"name": "select_response", "arguments": {"call_id": "%s"}}\n</tool_call>'


class Scripted:
    """Says these texts turn by turn, each ended by the stop token; a text with a trailing ... is cut there."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.requests: list[Request] = []
        self.contexts: list[list[int]] = []

    def speak(self, waiting: Sequence[Waiting]) -> list[Sampled]:
        return [self._say(one) for one in waiting]

    def _say(self, one: Waiting) -> Sampled:
        text = self.texts[len(self.requests)]
        self.requests.append(one.request)
        self.contexts.append(list(one.context))
        cut = text.endswith("...")
        ids = TOKENIZER.encode(text.removesuffix("..."), add_special_tokens=False)
        ids = ids if cut else [*ids, TOKENIZER.eos_token_id]
        return Sampled(tuple(ids), tuple(-0.5 for _ in ids))


@pytest.fixture
def world(tmp_path: Path) -> RecordedWorld:
    return RecordedWorld(synthetic_outcomes(tmp_path / "kit"))


@pytest.fixture
def play(world: RecordedWorld) -> Callable[..., Any]:
    async def played(
        speaker: Scripted, *, options: RouterLLMSettings = OPTIONS, window: int = WINDOW, **fields: Any
    ) -> Rollout:
        one = episode(world, sample(world.outcomes, 0, **fields), options=options)
        return (await play_rollouts([one], speaker, TEMPLATE, window=window))[0]

    return played


def split(rollout: Rollout) -> list[tuple[int, str]]:
    """Runs of tokens that were said (1) or told (0), as text."""
    runs: list[tuple[int, str]] = []
    transcript = rollout.transcript
    for token, own in zip(transcript.completion_ids, transcript.own, strict=True):
        text = TOKENIZER.decode([token])
        if runs and runs[-1][0] == own:
            runs[-1] = (own, runs[-1][1] + text)
        else:
            runs.append((own, text))
    return runs


def rendered(request: Request) -> str:
    """What a server makes of the request."""
    return TOKENIZER.decode(TEMPLATE.prompt(request))


async def test_the_sequence_is_what_the_serving_policy_sends(play: Any) -> None:
    speaker = Scripted(CALL % "small-sums", SELECT % "c1")
    rollout = await play(speaker)
    assert rollout.result.outcome.quality == 1.0
    assert rollout.result.problems == {}, "calls in the text are the server's to read, not the policy's"
    first, second = speaker.requests
    assert TOKENIZER.decode(rollout.transcript.prompt_ids) == rendered(first)
    assert TOKENIZER.decode(speaker.contexts[1]) == rendered(second)
    said = [text for own, text in split(rollout) if own]
    assert said == [CALL % "small-sums" + "<|im_end|>", SELECT % "c1" + "<|im_end|>"]
    whole = TOKENIZER.decode(rollout.transcript.ids)
    assert whole == rendered(second) + said[1]
    assert rollout.transcript.replies == [len(_ids(text)) for text in said]


def _ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


async def test_only_what_the_router_said_counts_and_keeps_its_probability(play: Any) -> None:
    transcript = (await play(Scripted(CALL % "weak", SELECT % "c1"))).transcript
    assert len(transcript.own) == len(transcript.logprobs) == len(transcript.completion_ids)
    assert sum(transcript.own) == sum(transcript.replies)
    assert {p for p, own in zip(transcript.logprobs, transcript.own, strict=True) if own} == {-0.5}
    assert {p for p, own in zip(transcript.logprobs, transcript.own, strict=True) if not own} == {0.0}


async def test_sampled_tokens_stay_though_the_policy_would_write_them_otherwise(play: Any) -> None:
    """The history that serving sends has the call tidied up; training must not teach what was never sampled."""
    odd = '<tool_call>{"name":"call_small-sums",   "arguments":{}}</tool_call>'
    speaker = Scripted(odd, SELECT % "c1")
    rollout = await play(speaker)
    assert split(rollout)[0] == (1, odd + "<|im_end|>")
    told = split(rollout)[1][1]
    tidy = CALL % "small-sums" + "<|im_end|>"
    assert rendered(speaker.requests[1]) == rendered(speaker.requests[0]) + tidy + told


async def test_a_reply_that_was_cut_is_closed_by_a_token_that_does_not_count(play: Any) -> None:
    rollout = await play(Scripted('<tool_call>\n{"name": "call_we...', CALL % "weak"), max_turns=2)
    said, told, *_ = split(rollout)
    assert said == (1, '<tool_call>\n{"name": "call_we')
    assert told[1].startswith("<|im_end|>\n<|im_start|>user\n[Note to the router")
    assert rollout.result.problems == {"malformed_call": 1}


async def test_the_episode_ends_with_the_selection(play: Any) -> None:
    rollout = await play(Scripted(CALL % "weak", SELECT % "c1", "never said"))
    assert split(rollout)[-1][0] == 1
    assert rollout.result.ended == "selected"


async def test_router_tokens_are_those_of_the_template(play: Any) -> None:
    speaker = Scripted(CALL % "weak", SELECT % "c1")
    rollout = await play(speaker)
    prompts = sum(len(context) for context in speaker.contexts)
    assert rollout.result.router_usage == Usage(prompts, sum(rollout.transcript.replies))


async def test_tools_in_the_text(play: Any) -> None:
    speaker = Scripted(CALL % "small-sums", SELECT % "c1")
    rollout = await play(speaker, options=RouterLLMSettings(tool_mode="text"))
    assert rollout.result.outcome.quality == 1.0
    assert rollout.result.problems == {}
    assert TOKENIZER.decode(speaker.contexts[1]) == rendered(speaker.requests[1])
    assert "<tool_response>" in split(rollout)[1][1]


async def test_a_full_window_cuts_replies_and_ends(play: Any) -> None:
    first = Scripted(CALL % "weak", SELECT % "c1")
    await play(first)
    window = len(first.contexts[1]) - 5
    rollout = await play(Scripted(CALL % "weak"), window=window, max_turns=2)
    assert len(rollout.transcript.ids) <= window
    assert rollout.transcript.replies == [len(_ids(CALL % "weak")) + 1]
    assert rollout.result.problems == {"cut": 1}


@pytest.mark.parametrize(
    ("text", "calls", "content"),
    [
        (CALL % "a", ["call_a"], None),
        ("I think: " + CALL % "a" + "\n" + CALL % "b", ["call_a", "call_b"], "I think:"),
        ("no call", [], "no call"),
        ("<tool_call>{broken", [], "<tool_call>{broken"),
    ],
)
def test_replies_are_read_as_a_server_reads_them(text: str, calls: list[str], content: str | None) -> None:
    request = Request(({"role": "user", "content": "hi"},), {"tools": [{}]})
    read = completion_of(text, request, Usage(), cut=False)
    assert [call["function"]["name"] for call in read.tool_calls] == calls
    assert len({call["id"] for call in read.tool_calls}) == len(calls)
    assert read.message["content"] == content
    assert completion_of(text, Request(request.messages), Usage(), cut=True).text == text


async def test_a_template_that_rewrites_earlier_turns_is_refused(world: RecordedWorld) -> None:
    class Forgetful(CharTokenizer):
        def apply_chat_template(self, conversation: Sequence[Any], **options: Any) -> str:
            last = conversation[-1]["role"] == "assistant"
            kept = [m if m["role"] != "assistant" or last else {**m, "tool_calls": ()} for m in conversation]
            return super().apply_chat_template(kept, **options)

    forgetful = ChatTemplate(Forgetful(), [CharTokenizer.eos_token_id])
    one = episode(world, sample(world.outcomes, 0))
    with pytest.raises(ConfigurationError, match="no single sequence"):
        await play_rollouts([one], Scripted(CALL % "weak", SELECT % "c1"), forgetful, window=WINDOW)


@pytest.mark.parametrize(
    ("turns", "rounds"), [(3, (("a",), ("b",))), (2, (("a",),)), (1, (("b",),))], ids=["3", "2", "1"]
)
def test_scripts_fit_the_turns_that_there_are(turns: int, rounds: tuple[tuple[str, ...], ...]) -> None:
    fitted = Script((("a",), ("b",)), "b").within(turns)
    assert fitted.rounds == rounds
    assert fitted.chosen in {model for names in rounds for model in names}


async def test_demonstrations_keep_to_the_format_and_informed_ones_earn_most(world: RecordedWorld) -> None:
    samples = [sample(world.outcomes, row) for row in range(12)]

    def episode_of(one: Sample) -> RouterEpisode:
        return episode(world, one)

    async def shown(**settings: Any) -> list[Rollout]:
        wanted = DemonstrationSettings(count=24, **settings)
        return await demonstrations(samples, episode_of, TEMPLATE, OPTIONS, wanted, window=WINDOW, seed=0)

    mixed, informed = await shown(), await shown(teacher="informed")
    assert len(mixed) == len(informed) == 24
    assert all(not one.result.problems and one.result.ended == "selected" for one in mixed + informed)
    assert {one.result.answered_by for one in mixed} == {"small-sums", "small-poems", "weak", "large"}
    assert all(one.result.outcome.quality == 1.0 for one in informed)
    assert {one.result.answered_by for one in informed} == {"small-sums", "small-poems"}
    assert 0.2 < sum(one.result.outcome.quality for one in mixed) / 24 < 0.9
    again = await shown()
    assert [one.result.called for one in again] == [one.result.called for one in mixed]


async def test_a_demonstration_for_which_there_is_no_room_is_an_error(world: RecordedWorld) -> None:
    async def shown(window: int) -> list[Rollout]:
        return await demonstrations(
            [sample(world.outcomes, 0)],
            lambda one: episode(world, one),
            TEMPLATE,
            OPTIONS,
            DemonstrationSettings(count=1),
            window=window,
            seed=0,
        )

    length = len((await shown(WINDOW))[0].transcript.ids)
    for window in (length - 5, length // 2):
        with pytest.raises(ConfigurationError, match=f"window of {window}"):
            await shown(window)

"""verl's agent loop around an episode of ours: one loop plays one sample.

A loop and not verl's tools: tools are loaded once a process and the same for every sample, whereas here each sample has its
own pool; and the turns, limits, refusals and costs of an episode are decided by the code that serves.

It is registered by the file that `launch.py` writes (`agent_loop_config_path`). verl's decorator `register` would, on import,
replace that entry by one without `terms`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput
from verl.experimental.agent_loop.tool_parser import ToolParser

from ...errors import DataError, ProviderResponseError
from ...messages import Completion, Message, Request, Usage
from ..dapo import overlong_penalty
from ..dataset.rows import Sample, sample_of
from .episode_record import models_of, numbers
from .reward import NOTED
from .sampled_reply import completion_of, hermes_calls
from .settings import HERMES
from .terms import opened_terms

NAME = "xrouter"
PROBLEMS, ROUTE, CALLED, WORLD = "episode_problems", "episode_route", "episode_called", "world_figures"


class RouterAgentLoop(AgentLoopBase):  # type: ignore[misc]  # verl has no types
    """terms: the file that `terms.py:write_terms` wrote.

    The router's sampled tokens are kept as they are, with mask 1; what came of a turn follows by the model's own chat
    template, with mask 0. Where the response has no room for a further decision the router says nothing more, and the best
    response so far is handed over.
    """

    def __init__(self, *args: Any, terms: str, **kwargs: Any) -> None:
        kwargs.pop("tools", None)
        super().__init__(*args, **kwargs)
        self._terms = opened_terms(terms)
        name = self._terms.verl.tool_parser
        self._parser = None if name == HERMES else ToolParser.get_tool_parser(name, self.tokenizer)

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Raises DataError for a row that is none of ours or too long, ProviderResponseError where nothing was sampled."""
        sample = sample_of({**kwargs, "prompt": kwargs["raw_prompt"]})
        episode = self._terms.episode(sample)
        response = _Response(self, sampling_params, sample)
        try:
            request = await episode.start()
            if request is None:
                raise DataError(f"sample {sample.index}: there was nothing to ask the router")
            await response.begin(request)
            while request is not None:
                completion = await response.decide(request)
                started = time.perf_counter()
                following = await episode.reply(completion)
                response.calls_s += time.perf_counter() - started
                if following is not None:
                    await response.append(request, following)
                request = following
        finally:
            await episode.aclose()
        if not response.mask:
            raise ProviderResponseError(
                f"sample {sample.index}: the rollout engine sampled no token", model=self._terms.model.name
            )
        result, verl = episode.result, self._terms.verl
        penalty = 0.0
        if verl.overlong_buffer and verl.overlong_penalty:
            room = self.rollout_config.response_length
            penalty = float(
                overlong_penalty(len(response.mask), room, verl.overlong_buffer, verl.overlong_penalty)
            )
        noted = numbers(result, models_of(kwargs["extra_info"]), overlong_penalty=penalty, full=response.full)
        response.extra |= {
            NOTED: noted,
            PROBLEMS: dict(result.problems),
            ROUTE: result.answered_by,
            CALLED: list(result.called),
            WORLD: dict(self._terms.world.figures()),
            "turn_scores": [],
            "tool_rewards": [],
        }
        if verl.score_in_loop:
            response.extra["reward_extra_info"] = noted
        return response.output(noted["score"] if verl.score_in_loop else None)

    def _cap_text_prompt_length(self, prompt_ids: list[int]) -> list[int]:
        """In place of verl's, which cuts the router's rules off the front of a long prompt with a warning."""
        most = self.rollout_config.prompt_length
        if len(prompt_ids) > most:
            raise DataError(
                f"a prompt has {len(prompt_ids)} tokens and verl.max_prompt_tokens is {most}: raise it, or build the data "
                "with the model's tokenizer and a lower max_prompt_tokens"
            )
        return prompt_ids

    async def completion(self, token_ids: Sequence[int], usage: Usage, *, turn: int, cut: bool) -> Completion:
        """What a server with a tool-call parser would have sent for these tokens."""
        text = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        if self._terms.options.tool_mode == "text":
            return completion_of(text, (), usage, turn=turn, cut=cut)
        if self._parser is None:
            before, calls = hermes_calls(text)
            return completion_of(before, calls, usage, turn=turn, cut=cut)
        before, found = await self._parser.extract_tool_calls(list(token_ids))
        named = [(call.name, call.arguments) for call in found]
        return completion_of(before if named else text, named, usage, turn=turn, cut=cut)


class _Response:
    """The tokens of one episode as they come: the first prompt, then all that follows, with masks and log-probabilities."""

    def __init__(self, loop: RouterAgentLoop, sampling_params: Mapping[str, Any], sample: Sample) -> None:
        self.loop = loop
        self.sampling_params = sampling_params
        self.sample = sample
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.logprobs: list[float] | None = None
        self.extra: dict[str, Any] = {}
        self.full = False
        self.turns = 0
        self.sampling_s = self.calls_s = 0.0
        self._preempted = -1
        self._session = uuid4().hex
        self._tools: list[dict[str, Any]] | None = None

    async def begin(self, request: Request) -> None:
        tools = request.params.get("tools")
        self._tools = [dict(tool) for tool in tools] if tools else None
        self.ids = await self.loop.ct_build_initial_tokens(templated(request.messages), tools=self._tools)

    async def decide(self, request: Request) -> Completion:
        """Samples one decision; an empty one, cut short and for nothing, where there is no room left."""
        self.turns += 1
        room = self.loop.rollout_config.response_length - len(self.mask)
        self.full = self.full or room <= 0
        if self.full:
            return completion_of("", (), Usage(), turn=self.turns, cut=True)
        limit = min(room, request.max_output_tokens or room)
        started = time.perf_counter()
        sampled = await self.loop.server_manager.generate(
            request_id=self._session,
            prompt_ids=self.ids,
            sampling_params={**self.sampling_params, "max_tokens": limit},
        )
        self.sampling_s += time.perf_counter() - started
        self._note(sampled)
        usage = Usage(len(self.ids), len(sampled.token_ids))
        given = sampled.log_probs or None
        if given is not None and self.logprobs is None:
            self.logprobs = [0.0] * len(self.mask)
        merged, self.mask, self.logprobs = await self.loop.ct_merge_assistant_token(
            self.ids, sampled.token_ids, self.mask, self.logprobs, assistant_logprobs=given
        )
        self.ids = merged.token_ids
        ended = sampled.token_ids and sampled.token_ids[-1] == self.loop.tokenizer.eos_token_id
        cut = len(sampled.token_ids) >= limit and not ended
        return await self.loop.completion(sampled.token_ids, usage, turn=self.turns, cut=cut)

    async def append(self, request: Request, following: Request) -> None:
        """Adds what the next request tells beyond the last one and the reply to it, where there is room for it."""
        if self.full:
            return
        said = len(request.messages) + 1
        merged, mask, logprobs = await self.loop.ct_merge_context_msg(
            templated(following.messages[:said]),
            templated(following.messages),
            self.ids,
            self.mask,
            self.logprobs,
            tools=self._tools,
        )
        if len(mask) >= self.loop.rollout_config.response_length:
            self.full = True
            return
        self.ids, self.mask, self.logprobs = merged.token_ids, mask, logprobs

    def output(self, reward: float | None) -> AgentLoopOutput:
        prompt = len(self.ids) - len(self.mask)
        return AgentLoopOutput(
            prompt_ids=self.ids[:prompt],
            response_ids=self.ids[prompt:],
            response_mask=self.mask,
            response_logprobs=self.logprobs,
            reward_score=reward,
            num_turns=2 * self.turns,
            metrics=AgentLoopMetrics(
                generate_sequences=self.sampling_s, tool_calls=self.calls_s, num_preempted=self._preempted
            ),
            extra_fields=self.extra,
        )

    def _note(self, sampled: Any) -> None:
        """Counts that verl's engines hand on beside the tokens, such as the version of the weights that sampled them."""
        if not self.extra:
            self.extra.update(sampled.extra_fields)
        elif sampled.extra_fields.get("max_global_steps") is not None:
            self.extra["max_global_steps"] = sampled.extra_fields["max_global_steps"]
        if sampled.num_preempted is not None:
            self._preempted = max(0, self._preempted) + sampled.num_preempted


def templated(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates want them: arguments of tool calls as objects, where OpenAI's API has JSON text."""
    return [
        {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else dict(message)
        for message in messages
    ]


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}

"""Our loop inside verl's own worker: its dataset reads our data, a scripted server says the tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("verl") is None or find_spec("transfer_queue") is None:
    pytest.skip("verl is not installed: pip install 'xrouter[verl]'", allow_module_level=True)

from verl_kit import ROUTER_USD, Stage, ask_two_then_select, call, data, offered, shown_ids, tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = data(tmp_path_factory.mktemp("verl"))
    tiny_model(folder / "model")
    return folder


@pytest.fixture
def stage(folder: Path, tmp_path: Path) -> Callable[..., Stage]:
    def make(says: Callable[[str], str], **verl: Any) -> Stage:
        return Stage(folder, tmp_path / "run", says, **verl)

    return make


async def test_tokens_and_mask_are_those_of_the_chat_template(stage: Callable[..., Stage]) -> None:
    one = stage(ask_two_then_select)
    out = await one.play(0)
    mask = out.batch["response_mask"][0]
    length = int(out.batch["attention_mask"][0, -mask.numel() :].sum())
    ids, mask = out.batch["responses"][0][:length].tolist(), mask[:length].tolist()
    prompt = out.batch["prompts"][0]
    prompt = prompt[prompt != one.tokenizer.pad_token_id].tolist()

    (first, params), (second, _) = one.server.asked
    assert prompt == first
    assert second == first + ids[: len(second) - len(first)], "the second decision reads all tokens so far"
    assert params["temperature"] == 1.0
    assert params["max_tokens"] == 2_048, "a decision's own limit"

    text = one.tokenizer.decode(first + ids)
    assert text.count("<|im_start|>assistant") == 2
    row = one.rows[0]
    told = [*row["raw_prompt"]]
    spoken = {"role": "assistant", "content": "", "tool_calls": []}
    results = re.findall(r"<tool_response>\n(.*?)\n</tool_response>", text, re.DOTALL)
    assert len(results) == 2
    calls_of = lambda *named: [{"function": {"name": n, "arguments": a}} for n, a in named]  # noqa: E731
    whole = [
        *told,
        {**spoken, "tool_calls": calls_of(*((f"call_{m}", {}) for m in offered(text)[:2]))},
        *({"role": "tool", "content": result} for result in results),
        {**spoken, "tool_calls": calls_of(("select_response", {"call_id": shown_ids(text)[0]}))},
    ]
    rendered = one.tokenizer.apply_chat_template(
        whole, tools=json.loads(row["tools"]), tokenize=True, return_dict=False
    )
    newline = one.tokenizer.encode("\n")
    assert first + ids + newline == rendered, "token by token what the template makes of the conversation"

    sampled = [token for said in one.server.said for token in said]
    assert [token for token, own in zip(ids, mask, strict=True) if own] == sampled
    context = one.tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if not own])
    assert context.startswith("\n<|im_start|>user\n<tool_response>")
    assert context.endswith("</tool_response><|im_end|>\n<|im_start|>assistant\n")
    logprobs = out.batch["rollout_log_probs"][0][:length].tolist()
    assert logprobs == [-0.5 if own else 0.0 for own in mask]


async def test_reward_is_the_episodes_and_numbers_arrive_where_verl_logs_them(
    stage: Callable[..., Stage],
) -> None:
    one = stage(ask_two_then_select)
    out = await one.play(0, 1, 2)
    scores = out.batch["rm_scores"].sum(-1).tolist()
    assert out.meta_info["reward_extra_keys"][:2] == ["score", "acc"]
    fields = out.non_tensor_batch
    for i, score in enumerate(scores):
        assert score == pytest.approx(float(fields["score"][i]))
        assert fields["acc"][i] in (0.0, 1.0)
        assert fields["calls"][i] == 2
        assert fields["turns"][i] == 2
        assert fields["invalid"][i] == 0
        assert fields["ended/selected"][i] == 1
        assert sum(fields[name][i] for name in fields if name.startswith("route/")) == 1
        assert fields["cost_usd"][i] > fields["router_cost_usd"][i] > 0
    asked = [len(prompt) for prompt, _ in one.server.asked]
    said = [len(reply) for reply in one.server.said]
    usd = (sum(asked) * ROUTER_USD[0] + sum(said) * ROUTER_USD[1]) / 1e6
    assert sum(fields["router_cost_usd"]) == pytest.approx(usd)
    assert fields["__num_turns__"].tolist() == [4, 4, 4]


async def test_faults_are_counted_and_the_router_reads_them(stage: Callable[..., Stage]) -> None:
    def says(prompt: str) -> str:
        return "fourty-two" if "unknown tool" in prompt else call("nobody")

    one = stage(says)
    out = await one.play(0)
    assert out.non_tensor_batch["episode_problems"][0] == {"unknown_tool": 1}
    assert out.non_tensor_batch["invalid"][0] == 1
    assert out.non_tensor_batch["route/router"][0] == 1
    assert out.non_tensor_batch["acc"][0] == 0


async def test_no_room_for_a_decision_hands_over_the_best_so_far(stage: Callable[..., Stage]) -> None:
    one = stage(ask_two_then_select, max_response_tokens=300, overlong_buffer=0)
    out = await one.play(0)
    assert len(one.server.asked) == 1, "what the models said does not fit: nothing more is sampled"
    assert out.non_tensor_batch["full"][0] == 1
    assert out.non_tensor_batch["calls"][0] == 2
    assert out.non_tensor_batch["route/none"][0] == 0, "a response was there to be handed over"
    assert out.batch["response_mask"][0].sum() == len(one.server.said[0])


async def test_a_long_response_is_penalised_as_verls_dapo_manager_does(stage: Callable[..., Stage]) -> None:
    from omegaconf import OmegaConf
    from verl.experimental.reward_loop.reward_manager.dapo import DAPORewardManager

    one = stage(ask_two_then_select, max_response_tokens=1_000, overlong_buffer=900, overlong_penalty=0.5)
    out = await one.play(0)
    fields = out.non_tensor_batch
    assert -0.5 < fields["overlong_penalty"][0] < 0
    assert fields["score"][0] == pytest.approx(fields["episode_reward"][0] + fields["overlong_penalty"][0])
    kwargs = {
        "max_resp_len": 1_000,
        "overlong_buffer_cfg": {"enable": True, "len": 900, "penalty_factor": 0.5},
    }
    kwargs["overlong_buffer_cfg"]["log"] = True  # type: ignore[index]
    manager = DAPORewardManager(
        OmegaConf.create({"reward": {"reward_kwargs": kwargs}}), one.tokenizer, lambda **_: 0.0
    )
    out.non_tensor_batch |= one.batch(0).non_tensor_batch
    theirs = await manager.run_single(out)
    assert fields["overlong_penalty"][0] == pytest.approx(float(theirs["reward_score"]))


async def test_verls_reward_manager_reads_what_the_loop_noted(stage: Callable[..., Stage]) -> None:
    import numpy as np
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
    from verl.trainer.ppo.reward import get_custom_reward_fn

    one = stage(ask_two_then_select, score_in_loop=False)
    out = await one.play(0)
    assert "rm_scores" not in out.batch
    noted = out.non_tensor_batch["episode_numbers"][0]
    out.non_tensor_batch |= one.batch(0).non_tensor_batch
    out.non_tensor_batch["tool_extra_fields"] = np.array([{"episode_numbers": noted}], dtype=object)
    manager = NaiveRewardManager(one.config, one.tokenizer, get_custom_reward_fn(one.config))
    result = await manager.run_single(out)
    assert result["reward_score"] == noted["score"]
    assert result["reward_extra_info"] == noted


async def test_a_prompt_that_does_not_fit_is_an_error_not_a_cut(stage: Callable[..., Stage]) -> None:
    from xrouter.errors import DataError

    one = stage(ask_two_then_select, max_prompt_tokens=2_000)
    with pytest.raises(DataError, match=r"verl\.max_prompt_tokens is 2000"):
        await one.play(0)

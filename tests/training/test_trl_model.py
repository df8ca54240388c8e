"""Sampling, probabilities and serving of a real model, a tiny one. Needs the extra `trl`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs pip install '.[trl]'")
pytest.importorskip("peft", reason="needs pip install '.[trl]'")

from conftest import make_model  # noqa: E402
from tiny_llm_kit import tiny_model  # noqa: E402

from xrouter.errors import ConfigurationError, ProviderRequestError  # noqa: E402
from xrouter.messages import Request  # noqa: E402
from xrouter.training.trl.checkpoint_provider import checkpoint_provider  # noqa: E402
from xrouter.training.trl.policy_model import load_policy  # noqa: E402
from xrouter.training.trl.rollouts import Transcript  # noqa: E402
from xrouter.training.trl.sampler import Sampler  # noqa: E402
from xrouter.training.trl.settings import DemonstrationSettings, LoraSettings, TRLSettings  # noqa: E402
from xrouter.training.trl.shared_prompts import completion_logprobs  # noqa: E402
from xrouter.training.trl.warm_start import cross_entropy, warm_start  # noqa: E402

PROMPTS = [[30, 40, 50], [30, 40, 50], [70, 80, 90, 100, 110], [30, 40, 50], [33]]
COMPLETIONS = [[60, 70], [90], [10, 20, 30, 40], [80, 80, 80], [5, 6]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tiny_model(path, ["hello there, what is 12 and 7? call a model"] * 3, vocabulary=300, hidden=32)
    return path


@pytest.fixture
def model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def one_by_one(model: Any, prompt: list[int], completion: list[int], temperature: float = 1.0) -> Any:
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits / temperature, -1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_shared_prompts_change_no_probability(model: Any, attention: str) -> None:
    model.set_attn_implementation(attention)
    found, entropies = completion_logprobs(model, PROMPTS, COMPLETIONS, temperature=0.7, width=6)
    assert found.shape == (5, 6)
    for i, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        logprobs = one_by_one(model, prompt, completion, 0.7)
        wanted = logprobs.gather(1, torch.tensor(completion)[:, None])[:, 0]
        assert torch.allclose(found[i, : len(completion)], wanted, atol=1e-5)
        assert not found[i, len(completion) :].any()
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        assert torch.allclose(entropies[i, : len(completion)], entropy, atol=1e-4)


def test_shared_prompts_change_no_gradient(model: Any) -> None:
    def gradient(loss: Any) -> Any:
        model.zero_grad()
        loss.backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    shared = gradient(completion_logprobs(model, PROMPTS, COMPLETIONS, temperature=1.0, width=4)[0].sum())
    alone = sum(
        one_by_one(model, p, c).gather(1, torch.tensor(c)[:, None]).sum()
        for p, c in zip(PROMPTS, COMPLETIONS, strict=True)
    )
    assert torch.allclose(shared, gradient(alone), atol=1e-4)


@pytest.mark.parametrize("batch", [2, 8])
def test_sampled_tokens_have_the_probability_that_the_model_gives_them(model: Any, batch: int) -> None:
    contexts = [p + c for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    torch.manual_seed(1)
    sampler = Sampler(model, [2], temperature=0.8, batch=batch)
    replies = sampler.replies(contexts, [7, 3, 9, 1, 5], [len(p) for p in PROMPTS])
    for context, limit, reply in zip(contexts, [7, 3, 9, 1, 5], replies, strict=True):
        assert 1 <= len(reply.ids) <= limit
        assert len(reply.ids) == limit or reply.ids[-1] == 2
        logprobs = one_by_one(model, context, list(reply.ids), 0.8)
        wanted = logprobs.gather(1, torch.tensor(reply.ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(reply.logprobs), wanted, atol=1e-4)


def test_greedy_replies_do_not_depend_on_their_batch(model: Any) -> None:
    contexts = [p + c for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    together = Sampler(model, [2], temperature=0.0, batch=8).replies(contexts, [6] * 5)
    for context, reply in zip(contexts, together, strict=True):
        (alone,) = Sampler(model, [2], temperature=0.0, batch=1).replies([context], [6])
        assert alone.ids == reply.ids


def test_the_stop_token_ends_a_reply(model: Any) -> None:
    (free,) = Sampler(model, [], temperature=0.0, batch=1).replies([PROMPTS[0]], [6])
    (ended,) = Sampler(model, [free.ids[2]], temperature=0.0, batch=1).replies([PROMPTS[0]], [6])
    assert ended.ids == free.ids[: free.ids.index(free.ids[2]) + 1]


def transcripts() -> list[Transcript]:
    return [
        Transcript(p, [*c, 9, 9, *c], [1] * len(c) + [0, 0] + [1] * len(c))
        for p, c in zip(PROMPTS, COMPLETIONS, strict=True)
    ]


def test_the_warm_start_learns_the_routers_own_tokens_alone(model: Any) -> None:
    wanted = 0.0
    for t in transcripts():
        logprobs = one_by_one(model, t.prompt_ids, t.completion_ids)
        picked = logprobs.gather(1, torch.tensor(t.completion_ids)[:, None])[:, 0]
        wanted -= float((picked * torch.tensor(t.own)).sum())
    assert float(cross_entropy(model, transcripts())) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["full", "lora"])
def test_warm_start_saves_what_it_learnt(folder: Path, tmp_path: Path, lora: LoraSettings | None) -> None:
    settings = TRLSettings(model=str(folder), precision="float32", device="cpu", lora=lora)
    policy = load_policy(settings)
    losses: list[float] = []
    wanted = DemonstrationSettings(epochs=20, batch=2, learning_rate=1e-2)
    warm_start(policy, transcripts(), wanted, seed=0, report=lambda f: losses.append(f["warm_loss"]))
    assert losses[-1] < losses[0] - 0.4
    policy.model.eval()
    learnt = float(cross_entropy(policy.model, transcripts()))
    policy.model.save_pretrained(tmp_path / "weights")
    policy.save(tmp_path / "merged")
    again = load_policy(settings, weights=tmp_path / "weights").model.eval()
    assert float(cross_entropy(again, transcripts())) == pytest.approx(learnt, rel=1e-3)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert float(cross_entropy(merged, transcripts())) == pytest.approx(learnt, rel=1e-2)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template


def test_what_cannot_be_trained_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"trl\.model"):
        load_policy(TRLSettings(model=str(tmp_path)))
    with pytest.raises(ConfigurationError, match="no device of this machine"):
        load_policy(TRLSettings(model=str(folder), device="cuda:77"))
    bare = tmp_path / "bare"
    policy = load_policy(TRLSettings(model=str(folder), device="cpu"))
    policy.tokenizer.chat_template = None
    policy.save(bare)
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ConfigurationError, match="no chat template"):
        load_policy(TRLSettings(model=str(bare), device="cpu"))
    hiding = tmp_path / "hiding"
    policy = load_policy(TRLSettings(model=str(folder), device="cpu"))
    policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<tool_call>"]})
    policy.save(hiding)
    with pytest.raises(ConfigurationError, match="special token"):
        load_policy(TRLSettings(model=str(hiding), device="cpu"))


async def test_a_checkpoint_answers_what_waits_in_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    replies = Sampler.replies

    def counted(self: Sampler, contexts: Any, limits: Any, alike: Any = None) -> Any:
        sizes.append(len(contexts))
        return replies(self, contexts, limits, alike)

    monkeypatch.setattr(Sampler, "replies", counted)
    provider = checkpoint_provider(folder, max_batch=4, device="cpu")
    model = make_model("router")
    requests = [
        Request(({"role": "user", "content": f"hello {i}"},), {"max_tokens": 3 + i}) for i in range(6)
    ]
    answers = await asyncio.gather(*(provider.complete(model, request) for request in requests))
    assert sizes == [4, 2]
    for i, answer in enumerate(answers):
        assert 1 <= answer.usage.completion_tokens <= 3 + i
        assert answer.usage.prompt_tokens > 3
        assert answer.finish_reason in ("length", "stop")
        assert (await provider.complete(model, requests[i])).text == answer.text
    with pytest.raises(ProviderRequestError, match="window"):
        await provider.complete(model, Request.from_text("hello " * 3000))
    await provider.aclose()


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigurationError):
        checkpoint_provider(tmp_path)

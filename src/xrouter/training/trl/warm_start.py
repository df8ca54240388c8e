"""Supervised learning of the router's own tokens in demonstrations."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .policy_model import PolicyModel
from .rollouts import Transcript
from .settings import DemonstrationSettings


def warm_start(
    policy: PolicyModel,
    transcripts: Sequence[Transcript],
    settings: DemonstrationSettings,
    *,
    seed: int,
    max_grad_norm: float = 1.0,
    report: Callable[[dict[str, float]], None] = lambda figures: None,
) -> None:
    """Cross entropy, in nats a token, over `epochs` passes; the rate falls linearly to a tenth.

    report: gets `warm_step` and `warm_loss` of each update.
    """
    model = policy.model
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    batches = list(_batches(transcripts, settings, seed))
    model.train()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 - 0.9 * step / len(batches))
        said = sum(sum(transcript.own) for transcript in batch)
        total = 0.0
        for start in range(0, len(batch), settings.micro_batch):
            with policy.autocast():
                loss = cross_entropy(model, batch[start : start + settings.micro_batch]) / said
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(weights, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        report({"warm_step": step + 1, "warm_steps": len(batches), "warm_loss": total})


def cross_entropy(model: Any, transcripts: Sequence[Transcript]) -> torch.Tensor:
    """Sum over the router's own tokens, in nats."""
    device = next(model.parameters()).device
    ids, mask, own = (rows.to(device) for rows in padded(transcripts))
    told = own[:, 1:].any(0).nonzero()[:, 0]
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        logits_to_keep=told,
        use_cache=False,
    )
    wanted, counted = ids[:, told + 1], own[:, told + 1].bool()
    return torch.nn.functional.cross_entropy(out.logits[counted].float(), wanted[counted], reduction="sum")


def padded(transcripts: Sequence[Transcript]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, attention mask, own), prompts padded on the left and completions on the right, so that replies stand together."""
    before = max(len(t.prompt_ids) for t in transcripts)
    after = max(len(t.completion_ids) for t in transcripts)
    rows = []
    for t in transcripts:
        left, right = before - len(t.prompt_ids), after - len(t.completion_ids)
        rows.append(
            (
                [0] * left + t.ids + [0] * right,
                [0] * left + [1] * len(t.ids) + [0] * right,
                [0] * before + t.own + [0] * right,
            )
        )
    ids, mask, own = (torch.tensor(column) for column in zip(*rows, strict=True))
    return ids, mask, own


def _batches(
    transcripts: Sequence[Transcript], settings: DemonstrationSettings, seed: int
) -> Iterator[list[Transcript]]:
    draw = random.Random(f"warm start {seed}")
    for _ in range(settings.epochs):
        order = list(transcripts)
        draw.shuffle(order)
        for start in range(0, len(order), settings.batch):
            yield order[start : start + settings.batch]

"""Log-probabilities of many completions of one prompt, the prompt computed once.

A group's episodes begin alike. In one row stand the prompt and, one after the other, its completions; each token sees the
prompt and its own completion alone, at the position that it has in its own sequence. The figures are those of the
sequences one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Packed:
    """U rows for B sequences. ids_UL, positions_UL; visible_ULL: whether a token sees another.

    row, start: of each sequence, where its completion is predicted from: `start` is the last token of its prompt.
    """

    ids_UL: torch.Tensor
    positions_UL: torch.Tensor
    visible_ULL: torch.Tensor
    row: tuple[int, ...]
    start: tuple[int, ...]


def packed(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> Packed:
    """The prompt's last token begins every completion: from it the first token is predicted. The last one predicts nothing."""
    number: dict[tuple[int, ...], int] = {}
    row = [number.setdefault(tuple(prompt), len(number)) for prompt in prompts]
    ids = [list(prompt[:-1]) for prompt in number]
    shared = [len(prompt) - 1 for prompt in number]
    branches: list[list[tuple[int, int]]] = [[] for _ in number]
    start = []
    for r, prompt, completion in zip(row, prompts, completions, strict=True):
        start.append(len(ids[r]))
        ids[r] += [prompt[-1], *completion[:-1]]
        branches[r].append((start[-1], len(ids[r])))
    length = max(map(len, ids))
    positions = torch.zeros(len(ids), length, dtype=torch.long)
    visible = torch.eye(length, dtype=torch.bool).repeat(len(ids), 1, 1)
    for r, common in enumerate(shared):
        positions[r, :common] = torch.arange(common)
        visible[r, :common, :common] = torch.ones(common, common).tril().bool()
        for begin, end in branches[r]:
            size = end - begin
            positions[r, begin:end] = common + torch.arange(size)
            visible[r, begin:end, :common] = True
            visible[r, begin:end, begin:end] = torch.ones(size, size).tril().bool()
    padded = torch.tensor([one + [0] * (length - len(one)) for one in ids])
    return Packed(padded, positions, visible, tuple(row), tuple(start))


def completion_logprobs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    temperature: float,
    width: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities, entropies) in nats of every completion token, each B x `width`, 0 behind a completion's end.

    Entropies carry no gradient.
    """
    device = next(model.parameters()).device
    pack = packed(prompts, completions)
    first = min(pack.start)
    mask = pack.visible_ULL[:, None].to(device)
    if model.config._attn_implementation != "sdpa":
        dtype = (
            torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else model.dtype
        )
        mask = torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill(~mask, torch.finfo(dtype).min)
    logits = model(
        input_ids=pack.ids_UL.to(device),
        attention_mask=mask,
        position_ids=pack.positions_UL.to(device),
        logits_to_keep=pack.ids_UL.shape[1] - first,
        use_cache=False,
    ).logits
    logps, entropies = [], []
    for row, start, completion in zip(pack.row, pack.start, completions, strict=True):
        begin, size = start - first, len(completion)
        all_logps = torch.log_softmax(logits[row, begin : begin + size].float() / temperature, dim=-1)
        wanted = torch.tensor(completion, device=device)[:, None]
        missing = (0, width - size)
        logps.append(torch.nn.functional.pad(all_logps.gather(1, wanted)[:, 0], missing))
        with torch.no_grad():
            entropy = -(all_logps.exp() * all_logps).sum(-1)
            entropies.append(torch.nn.functional.pad(entropy, missing))
    return torch.stack(logps), torch.stack(entropies)

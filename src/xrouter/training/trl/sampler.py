"""Sampling replies for many conversations at once from a model in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from .rollouts import Sampled, Waiting

SHRINK_BELOW = 0.75
"""Rows that are done are left out of the cache once no more than this share of it still writes."""


class Sampler:
    """A model as a speaker. temperature: 0 = the likeliest token. batch: replies written at once.

    stop_ids: tokens that end a reply. The randomness is torch's global one. autocast: makes a context for the computation.
    """

    def __init__(
        self,
        model: Any,
        stop_ids: Sequence[int],
        *,
        temperature: float,
        batch: int,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.model = model
        self._stop_ids = tuple(stop_ids)
        self._temperature = temperature
        self._batch = batch
        self._autocast = autocast

    def at(self, temperature: float) -> Sampler:
        """The same model at another temperature."""
        return Sampler(
            self.model, self._stop_ids, temperature=temperature, batch=self._batch, autocast=self._autocast
        )

    def speak(self, waiting: Sequence[Waiting]) -> list[Sampled]:
        return self.replies(
            [one.context for one in waiting],
            [one.limit for one in waiting],
            [one.prompt_length for one in waiting],
        )

    def replies(
        self,
        contexts: Sequence[Sequence[int]],
        limits: Sequence[int],
        alike: Sequence[int] | None = None,
    ) -> list[Sampled]:
        """One for each context, of 1 to `limit` tokens. alike: first tokens of each that others are likely to have too; what
        is the same is read once. None = the whole context."""
        heads = [
            tuple(context[: min(len(context) - 1, len(context) if alike is None else alike[i])])
            for i, context in enumerate(contexts)
        ]
        order = sorted(range(len(contexts)), key=lambda i: (len(heads[i]), heads[i]))
        found: dict[int, Sampled] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self._autocast():
                for start in range(0, len(order), self._batch):
                    rows = order[start : start + self._batch]
                    tails = [contexts[i][len(heads[i]) :] for i in rows]
                    spoken = self._write([heads[i] for i in rows], tails, [limits[i] for i in rows])
                    found |= dict(zip(rows, spoken, strict=True))
        finally:
            self.model.train(was_training)
        return [found[i] for i in range(len(contexts))]

    def _write(
        self, heads: Sequence[tuple[int, ...]], tails: Sequence[Sequence[int]], limits: Sequence[int]
    ) -> list[Sampled]:
        device = next(self.model.parameters()).device
        logits, cache, mask = self._read(heads, tails, device)
        stops = torch.tensor(self._stop_ids, device=device)
        places = list(range(len(tails)))
        ids: list[list[int]] = [[] for _ in tails]
        logprobs: list[list[float]] = [[] for _ in tails]
        done = [False] * len(tails)
        while True:
            token, logprob = self._draw(logits)
            ended = torch.isin(token, stops).tolist()
            for row, (place, one, log) in enumerate(
                zip(places, token.tolist(), logprob.tolist(), strict=True)
            ):
                if not done[place]:
                    ids[place].append(one)
                    logprobs[place].append(log)
                    done[place] = ended[row] or len(ids[place]) >= limits[place]
            writing = [row for row, place in enumerate(places) if not done[place]]
            if not writing:
                break
            if len(writing) <= SHRINK_BELOW * len(places):
                rows = torch.tensor(writing, device=device)
                cache.batch_select_indices(rows)
                token, mask = token[rows], mask[rows]
                places = [places[row] for row in writing]
            mask = torch.cat([mask, mask.new_ones(len(places), 1)], dim=1)
            logits, cache = self._forward(token[:, None], mask, cache)
        return [Sampled(tuple(i), tuple(p)) for i, p in zip(ids, logprobs, strict=True)]

    def _read(
        self, heads: Sequence[tuple[int, ...]], tails: Sequence[Sequence[int]], device: Any
    ) -> tuple[Any, Any, Any]:
        """Logits of the next token, the cache, and its mask. Equal heads, as those of a group, are read once."""
        number: dict[tuple[int, ...], int] = {}
        row_of = torch.tensor([number.setdefault(head, len(number)) for head in heads], device=device)
        tokens, mask = _left_padded(tails, device)
        if not any(number):
            return (*self._forward(tokens, mask, None), mask)
        head_tokens, head_mask = _left_padded(list(number), device)
        _, cache = self._forward(head_tokens, head_mask, None)
        if len(number) < len(heads):
            cache.batch_select_indices(row_of)
            head_mask = head_mask[row_of]
        mask = torch.cat([head_mask, mask], dim=1)
        return (*self._forward(tokens, mask, cache), mask)

    def _forward(self, tokens: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
        """Logits after the last of these tokens, and the cache with them. mask: of the cache and of these tokens."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        out = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.past_key_values

    def _draw(self, logits: Any) -> tuple[Any, Any]:
        scaled = logits.float() / (self._temperature or 1.0)
        logprobs = torch.log_softmax(scaled, dim=-1)
        token = torch.multinomial(logprobs.exp(), 1)[:, 0] if self._temperature else logprobs.argmax(-1)
        return token, logprobs.gather(1, token[:, None])[:, 0]


def _left_padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[Any, Any]:
    """(tokens, mask)"""
    longest = max(map(len, rows))
    tokens = [[0] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)

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

    def speak(self, waiting: Sequence[Waiting]) -> list[Sampled]:
        return self.replies([one.context for one in waiting], [one.limit for one in waiting])

    def replies(self, contexts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Sampled]:
        """One for each context, of 1 to `limit` tokens."""
        order = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        found: dict[int, Sampled] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self._autocast():
                for start in range(0, len(order), self._batch):
                    rows = order[start : start + self._batch]
                    spoken = self._write([contexts[i] for i in rows], [limits[i] for i in rows])
                    found |= dict(zip(rows, spoken, strict=True))
        finally:
            self.model.train(was_training)
        return [found[i] for i in range(len(contexts))]

    def _write(self, contexts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Sampled]:
        device = next(self.model.parameters()).device
        logits, cache, mask = self._read(contexts, device)
        stops = torch.tensor(self._stop_ids, device=device)
        places = list(range(len(contexts)))
        ids: list[list[int]] = [[] for _ in contexts]
        logprobs: list[list[float]] = [[] for _ in contexts]
        done = [False] * len(contexts)
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
            position = mask.sum(1, keepdim=True)
            mask = torch.cat([mask, mask.new_ones(len(places), 1)], dim=1)
            out = self.model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            )
            logits, cache = out.logits[:, -1], out.past_key_values
        return [Sampled(tuple(i), tuple(p)) for i, p in zip(ids, logprobs, strict=True)]

    def _read(self, contexts: Sequence[Sequence[int]], device: Any) -> tuple[Any, Any, Any]:
        """Logits of the next token, the cache, and its mask. Equal contexts, as those of a group, are read once."""
        number: dict[tuple[int, ...], int] = {}
        row_of = [number.setdefault(tuple(context), len(number)) for context in contexts]
        longest = max(map(len, number))
        padded = torch.tensor([[0] * (longest - len(c)) + list(c) for c in number], device=device)
        mask = torch.tensor([[0] * (longest - len(c)) + [1] * len(c) for c in number], device=device)
        out = self.model(
            input_ids=padded,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        rows = torch.tensor(row_of, device=device)
        if len(number) < len(contexts):
            out.past_key_values.batch_select_indices(rows)
            return out.logits[rows, -1], out.past_key_values, mask[rows]
        return out.logits[:, -1], out.past_key_values, mask

    def _draw(self, logits: Any) -> tuple[Any, Any]:
        scaled = logits.float() / (self._temperature or 1.0)
        logprobs = torch.log_softmax(scaled, dim=-1)
        token = torch.multinomial(logprobs.exp(), 1)[:, 0] if self._temperature else logprobs.argmax(-1)
        return token, logprobs.gather(1, token[:, None])[:, 0]

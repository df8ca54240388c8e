"""The data card: README.md with what is in the data and how it was made, card.json with the same numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...catalog.model import TIERS
from .build import FILES, Built, Written
from .recipe import Recipe

CARD, NUMBERS = "README.md", "card.json"

_FRONT = """\
---
license: other
license_name: that-of-the-sources
task_categories:
- text-generation
tags:
- llm-routing
- tool-calling
- reinforcement-learning
configs:
- config_name: default
  data_files:
{files}
---
"""

_COLUMNS = """\
| column | holds |
|---|---|
| `data_source` | the question's data set |
| `prompt` | what the router reads first: messages with `role` and `content` |
| `tools` | the routing tools of the sample's pool, OpenAI's schemas as JSON text |
| `ability` | the kind of question |
| `reward_model` | `style` ("rule") and `ground_truth`, the right answer |
| `extra_info` | `index` in the file, `split`, `question_id`, `source`, `repetition`, `band`, `pass_rate`, `trivial`, `pool_name`, `pool` (names, in the order of the tools), `request` (the conversation, JSON text), `grader`, `reference_answers`, `meta` (what else the grader needs, JSON text), `cost_weight`, `max_turns`, `prompt_tokens`, `need_tools_kwargs`, `tools_kwargs` |

`tools_kwargs` has every routing tool of the data in every row; `offered` says which of them this sample's pool has."""


def write_card(built: Built, recipe: Recipe, folder: Path, pictures: Mapping[str, str]) -> None:
    """Writes both files. pictures: file name -> caption."""
    numbers = summary(built, recipe)
    text = json.dumps(numbers, indent=2, ensure_ascii=False, default=str) + "\n"
    (folder / NUMBERS).write_text(text, encoding="utf-8")
    (folder / CARD).write_text(card(built, recipe, pictures), encoding="utf-8")


def summary(built: Built, recipe: Recipe) -> dict[str, Any]:
    """Everything countable, and the recipe."""
    samples = built.samples
    return {
        "samples": _counts(samples, lambda one: one.split),
        "questions": {split: _questions(one for one in samples if one.split == split) for split in FILES},
        "bands": _counts(samples, lambda one: one.band),
        "sources": _counts(samples, lambda one: one.source),
        "pools": _counts(samples, lambda one: one.pool_name),
        "pool_sizes": _counts(samples, lambda one: len(one.models)),
        "models": dict(Counter(model.name for one in samples for model in one.models).most_common()),
        "prompt_tokens": _tokens(samples),
        "left_out": dict(built.left_out),
        "notices": list(built.notices),
        "recipe": recipe.as_dict(),
    }


def summary_lines(built: Built) -> list[str]:
    """The card in a few lines, for a terminal."""
    lines = []
    for band, chosen in _grouped(built.samples, lambda one: one.band):
        splits = ", ".join(f"{n} {split}" for split, n in _counts(chosen, lambda one: one.split).items())
        lines.append(
            f"{band:12} {_questions(chosen)} questions, {splits}, mean pass rate {_mean_rate(chosen)}"
        )
    return lines + [f"left out     {count}: {why}" for why, count in built.left_out.items()]


def card(built: Built, recipe: Recipe, pictures: Mapping[str, str]) -> str:
    """The Markdown of the card."""
    samples = built.samples
    splits = [split for split in FILES if any(one.split == split for one in samples)]
    files = "\n".join(f"  - split: {split}\n    path: {FILES[split]}" for split in splits)
    measured = ", ".join(recipe.reference.models) or "nobody: see the sources"
    parts = [
        _FRONT.format(files=files),
        "# Data for a router that calls models as tools\n",
        f"{len(samples)} samples of {_questions(samples)} questions, made by `xrouter dataset build` with seed "
        f"{recipe.seed}. Each sample has a question, a pool of models as tools, and the caller's cost preference. Pass "
        f"rates are those of: {measured}. {_recorded_note(built)}\n",
        *(f"**Note:** {notice}.\n" for notice in built.notices),
        "## Samples\n",
        _by_band(samples, recipe, splits),
        _table(
            ("source", *splits, "questions"),
            (
                (source, *_per_split(chosen, splits), _questions(chosen))
                for source, chosen in _grouped(samples, lambda one: one.source)
            ),
        ),
        "No question is in both splits, however it is spelled: questions are told apart by their words without case, "
        "white space and closing punctuation, and all repetitions of one are on one side.\n",
        "## Left out\n",
        _table(("why", "how many"), built.left_out.items()) if built.left_out else "Nothing.\n",
        "## Pools\n",
        _pools(samples),
        "## Prompts\n",
        f"Longest prompt allowed: {recipe.max_prompt_tokens} tokens, tools included, "
        + (
            "by estimate."
            if recipe.tokenizer is None
            else f"counted with the tokenizer of `{recipe.tokenizer}`."
        )
        + "\n",
        _table(
            ("band", "median tokens", "95%", "longest"),
            (
                (band, *_quantiles([one.prompt_tokens for one in chosen]))
                for band, chosen in _grouped(samples, lambda one: one.band)
            ),
        ),
        *(f"![{caption}]({name})\n\n{caption}.\n" for name, caption in pictures.items()),
        "## Columns\n",
        _COLUMNS + "\n",
        "The right answer is in `reward_model` and `extra_info` alone, never in what the router or a called model "
        f"reads. The recipe and all numbers are in [{NUMBERS}]({NUMBERS}).\n",
    ]
    return "\n".join(parts)


def _recorded_note(built: Built) -> str:
    if any(model.provider == "replay" for one in built.samples for model in one.models):
        return "Pools hold recorded models: their tiers are guessed from their prices."
    return "Prices and descriptions in the tools are the catalog's at the time."


def _by_band(samples: Sequence[Written], recipe: Recipe, splits: Sequence[str]) -> str:
    limits = {band.name: band for band in (*recipe.bands, recipe.trivial)}

    def described(name: str) -> tuple[str, str, str]:
        band = limits.get(name)
        if band is None:
            return "not measured", "all", "1"
        rates = "not measured" if band is recipe.trivial else f"{band.low:g} to {band.high:g}"
        return rates, "all" if band.cap is None else str(band.cap), str(band.repeats)

    return _table(
        ("band", "pass rate", "cap", "repetitions", *splits, "questions", "mean pass rate"),
        (
            (band, *described(band), *_per_split(chosen, splits), _questions(chosen), _mean_rate(chosen))
            for band, chosen in _grouped(samples, lambda one: one.band)
        ),
    )


def _pools(samples: Sequence[Written]) -> str:
    drawn = (
        _table(("pool", "samples"), _counts(samples, lambda one: one.pool_name).items())
        + "\n"
        + _table(("models in the pool", "samples"), _counts(samples, lambda one: len(one.models)).items())
    )
    uses = Counter(model for one in samples for model in one.models)
    models = sorted(uses, key=lambda model: (TIERS.index(model.tier), -uses[model], model.name))
    return (
        drawn
        + "\n"
        + _table(
            ("model", "tier", "USD per million tokens in / out", "samples"),
            (
                (m.name, m.tier, f"{m.price.rates.input:f} / {m.price.rates.output:f}", uses[m])
                for m in models
            ),
        )
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _counts(samples: Sequence[Written], of: Callable[[Written], Any]) -> dict[str, int]:
    counted = Counter(of(one) for one in samples)
    return {str(key): counted[key] for key in sorted(counted)}


def _grouped(samples: Sequence[Written], of: Callable[[Written], str]) -> list[tuple[str, list[Written]]]:
    return [(key, [one for one in samples if of(one) == key]) for key in sorted({of(one) for one in samples})]


def _per_split(samples: Sequence[Written], splits: Sequence[str]) -> list[int]:
    return [sum(one.split == split for one in samples) for split in splits]


def _questions(samples: Iterable[Written]) -> int:
    return len({one.question for one in samples})


def _mean_rate(samples: Sequence[Written]) -> str:
    rates = [one.pass_rate for one in samples if one.pass_rate is not None]
    return f"{sum(rates) / len(rates):.2f}" if rates else "-"


def _tokens(samples: Sequence[Written]) -> dict[str, int]:
    median, high, longest = _quantiles([one.prompt_tokens for one in samples])
    return {"median": median, "95%": high, "longest": longest}


def _quantiles(lengths: Sequence[int]) -> tuple[int, int, int]:
    ordered = sorted(lengths)
    last = len(ordered) - 1
    return ordered[last // 2], ordered[round(last * 0.95)], ordered[last]

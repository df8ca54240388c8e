"""What a call will cost, before it is made. Predictions only: books hold the upstream's own usage.

Two estimates of a prompt's length, in tokens:

- the expected one, to plan with: a token for every 4 ASCII characters (English prose averages 4 to 4.5) and
  one for every other character (a CJK character is about one token);
- the bound, for the hard cap: one token per UTF-8 byte, which no byte-level tokenizer exceeds.

Images count 1,100 tokens (85 at low detail) and are bounded at 6,000; audio and files by the size of their
base64 data over 100. A provider that charges more than that for media can exceed a cap by the difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from ..catalog.model import Model
from ..catalog.price import MILLION, Rates
from ..messages import Request, Usage

EXPECTED_OUTPUT_TOKENS = 400
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
BOUND_PER_MESSAGE = 16
IMAGE_TOKENS = 1_100
LOW_DETAIL_IMAGE_TOKENS = 85
IMAGE_BOUND = 6_000
MEDIA_CHARACTERS_PER_TOKEN = 100
PARAMS_IN_PROMPT = ("tools", "functions", "response_format")


def estimate_tokens(text: str) -> int:
    """Expected tokens of a text: 4 ASCII characters a token, any other character one."""
    ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-ascii_characters // CHARACTERS_PER_TOKEN) + len(text) - ascii_characters


def estimate_query_tokens(query: str) -> int:
    """Expected prompt tokens of a conversation that is this one user message: `estimate_prompt_tokens` of it."""
    return estimate_tokens(query) + TOKENS_PER_MESSAGE


def estimate_prompt_tokens(request: Request) -> int:
    """Expected prompt tokens of the request: text, media, tool schemas and a little for each message."""
    return _tokens(request).expected


def bound_prompt_tokens(request: Request) -> int:
    """A number of prompt tokens that the request does not exceed (media aside, see above)."""
    return _tokens(request).bound


def output_limit(model: Model, request: Request) -> int:
    """Output tokens one choice may have: the client's limit or the model's, whichever is lower."""
    asked = request.max_output_tokens
    return model.max_output_tokens if asked is None else max(0, min(asked, model.max_output_tokens))


def choices(request: Request) -> int:
    """How many answers the client asked for at once (`n`); output is billed for each."""
    n = request.params.get("n")
    return n if isinstance(n, int) and not isinstance(n, bool) and n > 1 else 1


def predicted_cost(
    model: Model, request: Request, expected_output_tokens: int = EXPECTED_OUTPUT_TOKENS
) -> Decimal:
    """Expected USD of asking `model`: the estimated prompt and `expected_output_tokens` for each choice."""
    output = min(expected_output_tokens, output_limit(model, request)) * choices(request)
    return model.price.cost(Usage(estimate_prompt_tokens(request), output))


def affordable_output_tokens(model: Model, request: Request, money_left: Decimal) -> int:
    """Output tokens a choice may have so that the call costs at most `money_left` USD even at worst; -1 when
    not even the prompt can be paid for.

    Worst: the prompt at its bound, nothing cached, every output token at the dearer of the output and
    reasoning rates, in the dearest price tier within reach.
    """
    prompt = bound_prompt_tokens(request)
    input_rate, output_rate = _worst_rates(model, prompt)
    left = money_left - prompt * input_rate / MILLION
    if left < 0:
        return -1
    limit = output_limit(model, request)
    if output_rate == 0:
        return limit
    paid_for = (left * MILLION / (output_rate * choices(request))).to_integral_value(ROUND_FLOOR)
    return min(limit, int(paid_for))


def worst_cost(model: Model, request: Request, output_tokens: int) -> Decimal:
    """USD that a call with this many output tokens a choice cannot exceed; see `affordable_output_tokens`."""
    prompt = bound_prompt_tokens(request)
    input_rate, output_rate = _worst_rates(model, prompt)
    return (prompt * input_rate + output_tokens * choices(request) * output_rate) / MILLION


def _worst_rates(model: Model, prompt_tokens: int) -> tuple[Decimal, Decimal]:
    """Highest input and output rate, USD per million tokens, of any tier a prompt up to this long can reach."""
    within_reach: list[Rates] = [model.price.rates]
    within_reach += [tier.rates for tier in model.price.tiers if prompt_tokens > tier.above_prompt_tokens]
    return (
        max(max(rates.input, rates.cached_input or rates.input) for rates in within_reach),
        max(max(rates.output, rates.reasoning or rates.output) for rates in within_reach),
    )


@dataclass(frozen=True, slots=True)
class _PromptTokens:
    """Of one request."""

    expected: int
    bound: int


def _tokens(request: Request) -> _PromptTokens:
    """Counted once a request: everybody who plans, checks a cap or books asks for it."""
    known = request.worked_out.get(_PromptTokens)
    if isinstance(known, _PromptTokens):
        return known
    texts, media = _contents(request)
    counted = _PromptTokens(
        expected=sum(map(estimate_tokens, texts))
        + sum(_media_tokens(part, low=LOW_DETAIL_IMAGE_TOKENS, high=IMAGE_TOKENS) for part in media)
        + TOKENS_PER_MESSAGE * len(request.messages),
        bound=sum(map(_bytes, texts))
        + sum(_media_tokens(part, low=IMAGE_BOUND, high=IMAGE_BOUND) for part in media)
        + BOUND_PER_MESSAGE * (len(request.messages) + 1),
    )
    request.worked_out[_PromptTokens] = counted
    return counted


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _contents(request: Request) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Every text the model will read (schemas and earlier tool calls as JSON) and every other part."""
    texts: list[str] = []
    media: list[Mapping[str, Any]] = []
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif isinstance(part, Mapping):
                media.append(part)
        if not message.keys() <= _SPOKEN:
            texts.append(_json({key: value for key, value in message.items() if key not in _SPOKEN}))
    texts.extend(_json(request.params[name]) for name in PARAMS_IN_PROMPT if request.params.get(name))
    return texts, media


def _media_tokens(part: Mapping[str, Any], *, low: int, high: int) -> int:
    if part.get("type") in ("image_url", "input_image", "image"):
        image = part.get("image_url")
        return low if isinstance(image, Mapping) and image.get("detail") == "low" else high
    return max(1, len(_json(part)) // MEDIA_CHARACTERS_PER_TOKEN)


_SPOKEN = frozenset({"role", "content"})
_ENCODER = json.JSONEncoder(default=str, ensure_ascii=False)


def _json(value: Any) -> str:
    return _ENCODER.encode(value)

"""How long a prompt is, in tokens: estimated as the gateway estimates, or counted with a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...episodes.cost import TOKENS_PER_MESSAGE, estimate_prompt_tokens
from ...errors import ConfigurationError
from ...messages import Request

Counter = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], int]
"""(messages, tools) -> tokens."""


def estimated(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
    return estimate_prompt_tokens(Request(tuple(messages), {"tools": list(tools)} if tools else {}))


def counter(tokenizer: str | None) -> Counter:
    """Counts texts and tool schemas with the tokenizer in this file or folder; None = estimates.

    A chat template's own tokens are counted as 4 a message. Raises ConfigurationError where the file cannot be read or
    the library is not installed.
    """
    if tokenizer is None:
        return estimated
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "tokenizer: counting with a tokenizer needs the package tokenizers: pip install tokenizers",
            param="tokenizer",
        ) from error
    path = Path(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigurationError(
            f"tokenizer: {file} is not there; name a tokenizer.json or a folder with one", param="tokenizer"
        )
    try:
        loaded = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises nothing more precise
        raise ConfigurationError(
            f"tokenizer: {file} is no tokenizer.json: {error}", param="tokenizer"
        ) from error

    def counted(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
        texts = [message["content"] for message in messages]
        texts += [json.dumps(tool, ensure_ascii=False) for tool in tools]
        lengths = (len(encoding.ids) for encoding in loaded.encode_batch(texts, add_special_tokens=False))
        return sum(lengths) + TOKENS_PER_MESSAGE * len(messages)

    return counted

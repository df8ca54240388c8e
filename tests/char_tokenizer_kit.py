"""A tokenizer with a token for every character and one for each tag of its chat template, which is Qwen2.5's in Python."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

START, END = "<|im_start|>", "<|im_end|>"
_TAGS = (START, END)
_PIECE = re.compile(r"<\|\w+\|>|.", re.DOTALL)


class CharTokenizer:
    """Ids are code points; tags have ids of their own. `calls`: how often the template was filled in."""

    eos_token_id = 0x110000 + 1

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
    ) -> str:
        assert not tokenize
        text = ""
        if tools:
            names = " ".join(tool["function"]["name"] for tool in tools)
            text += f"{START}system\n<tools>{names}</tools>{END}\n"
        for message in conversation:
            said = message["content"]
            for call in message.get("tool_calls", ()):
                function = call["function"]
                assert isinstance(function["arguments"], dict), "servers hand templates objects"
                body = f'{{"name": "{function["name"]}", "arguments": {json.dumps(function["arguments"])}}}'
                said += ("\n" if said else "") + f"<tool_call>\n{body}\n</tool_call>"
            text += f"{START}{message['role']}\n{said}{END}\n"
        return text + (f"{START}assistant\n" if add_generation_prompt else "")

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return [
            0x110000 + _TAGS.index(piece) if piece in _TAGS else ord(piece) for piece in _PIECE.findall(text)
        ]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(
            chr(one) if one < 0x110000 else "" if skip_special_tokens else _TAGS[one - 0x110000]
            for one in token_ids
        )

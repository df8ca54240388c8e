"""System prompt, turns and content blocks of a Messages request as chat messages.

Thinking blocks of earlier turns are left out: they are another model's, as a rule, and chat completions has no place
for them. `cache_control` is left out of every block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ...errors import RequestError
from ..checks import text, wrong

Part = dict[str, Any]
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def chat_messages(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises RequestError naming the block at fault, e.g. messages[2].content[0].source."""
    turns = data.get("messages")
    if not isinstance(turns, list) or not turns:
        raise wrong("messages", "a list of at least one message", turns)
    messages: list[dict[str, Any]] = []
    if data.get("system") is not None:
        messages += _system(data["system"], "system")
    calls: set[str] = set()
    for i, turn in enumerate(turns):
        param = f"messages[{i}]"
        if not isinstance(turn, dict):
            raise wrong(param, "an object with role and content", turn)
        role, content = turn.get("role"), turn.get("content")
        if role == "user":
            messages += _user(content, f"{param}.content", calls)
        elif role == "assistant":
            messages += _assistant(content, f"{param}.content", calls)
        elif role == "system":
            messages += _system(content, f"{param}.content")
        else:
            raise wrong(f"{param}.role", "'user', 'assistant' or 'system'", role)
    if turns[-1]["role"] == "assistant":
        raise RequestError(
            "messages must not end with the assistant's turn: no model that may be asked promises to go on from"
            " words put into its mouth; end with a user message",
            param="messages",
        )
    return messages


def _system(content: Any, param: str) -> list[dict[str, Any]]:
    parts = [_text_part(block, at) for block, at in _blocks(content, param)]
    return [{"role": "system", "content": _content(parts)}] if parts else []


def _user(content: Any, param: str, calls: set[str]) -> list[dict[str, Any]]:
    """The results of tools first, each a message of its own, then all else the user says."""
    results: list[dict[str, Any]] = []
    images: list[Part] = []
    said: list[Part] = []
    for block, at in _blocks(content, param):
        if block["type"] == "tool_result":
            result, pictures = _tool_result(block, at, calls)
            results.append(result)
            images += pictures
        else:
            said.append(_part(block, at))
    if not results and not said:
        raise RequestError(f"{param} is empty: a user message needs content", param=param)
    said = images + said
    return [*results, {"role": "user", "content": _content(said)}] if said else results


def _assistant(content: Any, param: str, calls: set[str]) -> list[dict[str, Any]]:
    texts: list[str] = []
    tool_calls: list[dict[str, Any]] = []
    for block, at in _blocks(content, param):
        kind = block["type"]
        if kind == "text":
            texts.append(_text_part(block, at)["text"])
        elif kind == "tool_use":
            tool_calls.append(_tool_call(block, at))
            calls.add(block["id"])
        elif kind not in ("thinking", "redacted_thinking"):
            raise _not_taken(block, at, "text, tool_use and thinking")
    if not texts and not tool_calls:
        return []
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts) if texts else None}
    return [{**message, "tool_calls": tool_calls} if tool_calls else message]


def _tool_call(block: Mapping[str, Any], param: str) -> dict[str, Any]:
    for name in ("id", "name"):
        if not text(block.get(name)):
            raise wrong(f"{param}.{name}", "a string", block.get(name))
    if not isinstance(block.get("input"), dict):
        raise wrong(f"{param}.input", "an object", block.get("input"))
    arguments = orjson.dumps(block["input"]).decode()
    return {
        "id": block["id"],
        "type": "function",
        "function": {"name": block["name"], "arguments": arguments},
    }


def _tool_result(block: Mapping[str, Any], param: str, calls: set[str]) -> tuple[dict[str, Any], list[Part]]:
    """The tool message, and the images of the result: a tool message holds only text, so they follow as the user's."""
    call = block.get("tool_use_id")
    if not isinstance(call, str) or call not in calls:
        raise RequestError(
            f"{param}.tool_use_id must be the id of a tool_use block before it", param=f"{param}.tool_use_id"
        )
    if not isinstance(block.get("is_error"), bool | None):
        raise wrong(f"{param}.is_error", "true or false", block["is_error"])
    inner = [] if block.get("content") is None else [*_blocks(block["content"], f"{param}.content")]
    parts = [_part(part, at, "text and image") for part, at in inner]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    images = [part for part in parts if part["type"] == "image_url"]
    said = "\n".join(texts)
    if block.get("is_error"):
        said = f"Error: {said}" if said else "Error"
    if images:
        images.insert(0, {"type": "text", "text": f"Images in the result of {call}:"})
    return {"role": "tool", "tool_call_id": call, "content": said}, images


def _blocks(content: Any, param: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The content blocks and where each is; a string is one text block."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, param
        return
    if not isinstance(content, list):
        raise wrong(param, "a string or a list of content blocks", content)
    for i, block in enumerate(content):
        at = f"{param}[{i}]"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise RequestError(f"{at} must be an object with a type such as 'text'", param=at)
        yield block, at


def _part(block: Mapping[str, Any], param: str, taken: str = "text, image and tool_result") -> Part:
    if block["type"] == "text":
        return _text_part(block, param)
    if block["type"] == "image":
        return {"type": "image_url", "image_url": {"url": _image_url(block.get("source"), f"{param}.source")}}
    raise _not_taken(block, param, taken)


def _text_part(block: Mapping[str, Any], param: str) -> Part:
    if block["type"] != "text":
        raise _not_taken(block, param, "text")
    if not isinstance(block.get("text"), str):
        raise wrong(f"{param}.text", "a string", block.get("text"))
    return {"type": "text", "text": block["text"]}


def _image_url(source: Any, param: str) -> str:
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "url" and text(source.get("url")):
        return str(source["url"])
    if kind == "base64" and text(source.get("data")):
        if source.get("media_type") not in _IMAGES:
            raise RequestError(
                f"{param}.media_type must be one of {', '.join(_IMAGES)}", param=f"{param}.media_type"
            )
        return f"data:{source['media_type']};base64,{source['data']}"
    raise RequestError(
        f"{param} must be an object of type 'base64' with media_type and data, or of type 'url' with url; files"
        " that were uploaded elsewhere are not known here",
        param=param,
    )


def _content(parts: list[Part]) -> str | list[Part]:
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _not_taken(block: Mapping[str, Any], param: str, taken: str) -> RequestError:
    kind = block["type"]
    hint = "; send its text as a text block" if kind == "document" else ""
    return RequestError(
        f"{param}.type is {kind[:40]!r}, which cannot be passed on; here it may be {taken}{hint}",
        param=f"{param}.type",
    )

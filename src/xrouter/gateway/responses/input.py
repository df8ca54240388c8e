"""Instructions and input items of a Responses request as chat messages.

Reasoning items are left out: they are another model's, as a rule, and chat completions has no place for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import RequestError
from ..checks import text, wrong

Part = dict[str, Any]
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
"""Only OpenAI's own models know the role developer; they take system for the same."""


def chat_messages(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises RequestError naming the item at fault, e.g. input[2].content[0].type."""
    given = data.get("input")
    if not given:
        raise RequestError("input is missing: give a string or a list of items", param="input")
    conversation = _Conversation()
    if data.get("instructions"):
        conversation.messages.append({"role": "system", "content": data["instructions"]})
    if isinstance(given, str):
        conversation.messages.append({"role": "user", "content": given})
    else:
        for i, item in enumerate(given):
            conversation.add(item, f"input[{i}]")
        if not any(message["role"] != "system" for message in conversation.messages):
            raise RequestError("input holds no message", param="input")
    return conversation.messages


class _Conversation:
    """Chat messages so far. What one assistant says and calls, several items here, is one message there."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._calls: set[str] = set()

    def add(self, item: Any, param: str) -> None:
        if not isinstance(item, dict):
            raise wrong(param, "an object", item)
        kind = item.get("type") or ("message" if "role" in item else "item_reference")
        if kind == "message":
            self._message(item, param)
        elif kind == "function_call":
            self._call(item, param)
        elif kind == "function_call_output":
            self._output(item, param)
        elif kind == "item_reference":
            raise RequestError(
                f"{param} refers to a stored item, and nothing is stored here; send the item itself",
                param=param,
            )
        elif kind != "reasoning":
            raise RequestError(
                f"{param}.type must be message, function_call, function_call_output or reasoning; items of tools"
                " that OpenAI's servers run cannot be passed on",
                param=f"{param}.type",
            )

    def _message(self, item: Mapping[str, Any], param: str) -> None:
        role, content = item.get("role"), item.get("content")
        if not isinstance(role, str) or role not in _ROLES:
            raise wrong(f"{param}.role", "'user', 'assistant', 'system' or 'developer'", role)
        if not isinstance(content, str):
            content = _content(_parts(content, f"{param}.content"), assistant=role == "assistant")
        self.messages.append({"role": _ROLES[role], "content": content})

    def _call(self, item: Mapping[str, Any], param: str) -> None:
        for name in ("call_id", "name"):
            if not text(item.get(name)):
                raise wrong(f"{param}.{name}", "a string", item.get(name))
        if not isinstance(item.get("arguments"), str):
            raise wrong(f"{param}.arguments", "a string of JSON", item.get("arguments"))
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": None})
        function = {"name": item["name"], "arguments": item["arguments"]}
        calls = self.messages[-1].setdefault("tool_calls", [])
        calls.append({"id": item["call_id"], "type": "function", "function": function})
        self._calls.add(item["call_id"])

    def _output(self, item: Mapping[str, Any], param: str) -> None:
        call, output = item.get("call_id"), item.get("output")
        if not isinstance(call, str) or call not in self._calls:
            raise RequestError(
                f"{param}.call_id must be the call_id of a function_call item before it: nothing is stored here,"
                " so the call has to be in input too",
                param=f"{param}.call_id",
            )
        images: list[Part] = []
        if not isinstance(output, str):
            parts = _parts(output, f"{param}.output")
            output = "\n".join(part["text"] for part in parts if part["type"] == "text")
            images = [part for part in parts if part["type"] == "image_url"]
        self._insert_result({"role": "tool", "tool_call_id": call, "content": output})
        if images:
            said = {"type": "text", "text": f"Images in the output of {call}:"}
            self.messages.append({"role": "user", "content": [said, *images]})

    def _insert_result(self, message: dict[str, Any]) -> None:
        """After the results that are there: they stand together, before the images that came with one of them."""
        at = len(self.messages)
        while at and self.messages[at - 1]["role"] not in ("assistant", "tool"):
            at -= 1
        self.messages.insert(at, message)


def _parts(content: Any, param: str) -> list[Part]:
    if not isinstance(content, list):
        raise wrong(param, "a string or a list of parts", content)
    return [_part(part, f"{param}[{i}]") for i, part in enumerate(content)]


def _part(part: Any, param: str) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "refusal"):
        name = "refusal" if kind == "refusal" else "text"
        if not isinstance(part.get(name), str):
            raise wrong(f"{param}.{name}", "a string", part.get(name))
        return {"type": "text", "text": part[name]}
    if kind == "input_image":
        if not text(part.get("image_url")):
            raise RequestError(
                f"{param}.image_url must be a URL or a data URL: files that were uploaded elsewhere are not known"
                " here",
                param=f"{param}.image_url",
            )
        image = {"url": part["image_url"]}
        if part.get("detail") in ("low", "high"):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    hint = "; send its text as input_text" if kind == "input_file" else ""
    raise RequestError(
        f"{param}.type must be input_text, input_image, output_text or refusal{hint}", param=f"{param}.type"
    )


def _content(parts: list[Part], *, assistant: bool) -> str | list[Part]:
    if assistant or (len(parts) == 1 and parts[0]["type"] == "text"):
        return "\n".join(part["text"] for part in parts if part["type"] == "text")
    return parts

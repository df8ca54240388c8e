"""Tools and tool_choice of a Messages request as chat completions has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import RequestError
from ..checks import Checks, check_fields, list_of, of, one_of, text, wrong


def tool_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`, as far as the request has them. Raises RequestError."""
    tools, choice = data.get("tools"), data.get("tool_choice")
    if tools is not None and not list_of(dict)(tools):
        raise wrong("tools", "a list of objects", tools)
    if not tools:
        if choice is not None:
            raise RequestError("tool_choice needs tools to choose from", param="tool_choice")
        return {}
    functions = [_function(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    fields: dict[str, Any] = {"tools": [{"type": "function", "function": each} for each in functions]}
    if choice is not None:
        fields |= _choice(choice, [each["name"] for each in functions])
    return fields


def _function(tool: Mapping[str, Any], param: str) -> dict[str, Any]:
    kind = tool.get("type")
    if kind not in (None, "custom"):
        raise RequestError(
            f"{param}.type must be 'custom': tools that Anthropic's servers or models define are not run here;"
            " give it a name and an input_schema of its own",
            param=f"{param}.type",
        )
    if not text(tool.get("name")):
        raise wrong(f"{param}.name", "a string", tool.get("name"))
    if not isinstance(tool.get("input_schema"), dict):
        raise wrong(f"{param}.input_schema", "a JSON schema", tool.get("input_schema"))
    check_fields(tool, _TOOL, prefix=f"{param}.")
    if tool.get("defer_loading") or any(caller != "direct" for caller in tool.get("allowed_callers") or ()):
        raise RequestError(
            f"{param} asks for tool search or calls from code, which run on Anthropic's servers only; leave out"
            " defer_loading and allowed_callers",
            param=param,
        )
    parameters = dict(tool["input_schema"])
    if tool.get("input_examples"):
        parameters["examples"] = tool["input_examples"]
    function = {"name": tool["name"], "parameters": parameters}
    return function | {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}


def _choice(choice: Any, names: list[str]) -> dict[str, Any]:
    if not isinstance(choice, dict):
        raise wrong("tool_choice", "an object with a type", choice)
    check_fields(choice, _CHOICE, prefix="tool_choice.")
    kind = choice.get("type")
    if kind is None:
        raise RequestError("tool_choice.type is missing", param="tool_choice.type")
    if kind == "tool":
        if choice.get("name") not in names:
            raise RequestError("tool_choice.name must be the name of one of tools", param="tool_choice.name")
        chosen: Any = {"type": "function", "function": {"name": choice["name"]}}
    else:
        chosen = {"auto": "auto", "any": "required", "none": "none"}[kind]
    one_at_a_time = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    return {"tool_choice": chosen, **one_at_a_time}


_TOOL: Checks = {
    "description": (of(str), "a string"),
    "strict": (of(bool), "true or false"),
    "input_examples": (list_of(dict), "a list of objects"),
    "allowed_callers": (list_of(str), "a list of strings"),
    "defer_loading": (of(bool), "true or false"),
}
_CHOICE: Checks = {
    "type": (one_of("auto", "any", "tool", "none"), "'auto', 'any', 'tool' or 'none'"),
    "disable_parallel_tool_use": (of(bool), "true or false"),
}

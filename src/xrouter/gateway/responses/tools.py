"""Tools and tool_choice of a Responses request as chat completions has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import RequestError
from ..checks import Checks, check_fields, list_of, of, text, wrong


def tool_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`, as far as the request has them. Raises RequestError."""
    tools, choice = data.get("tools"), data.get("tool_choice")
    if tools is not None and not list_of(dict)(tools):
        raise wrong("tools", "a list of objects", tools)
    if not tools:
        if choice not in (None, "auto", "none"):
            raise RequestError("tool_choice needs tools to choose from", param="tool_choice")
        return {}
    functions = {function["name"]: function for function in _functions(tools)}
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        functions, choice = _allowed(functions, choice)
    fields: dict[str, Any] = {
        "tools": [{"type": "function", "function": each} for each in functions.values()]
    }
    if choice is not None:
        fields["tool_choice"] = _choice(choice, functions)
    if data.get("parallel_tool_calls") is not None:
        fields["parallel_tool_calls"] = data["parallel_tool_calls"]
    return fields


def _functions(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    functions = []
    for i, tool in enumerate(tools):
        param = f"tools[{i}]"
        if tool.get("type") != "function":
            raise RequestError(
                f"{param}.type must be 'function': tools that OpenAI's servers run or models define are not"
                " served here",
                param=f"{param}.type",
            )
        if not text(tool.get("name")):
            raise wrong(f"{param}.name", "a string", tool.get("name"))
        check_fields(tool, _TOOL, prefix=f"{param}.")
        functions.append(
            {"name": tool["name"]} | {key: tool[key] for key in _TOOL if tool.get(key) is not None}
        )
    return functions


def _choice(choice: Any, functions: Mapping[str, Any]) -> str | dict[str, Any]:
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    if not isinstance(choice, dict) or choice.get("type") != "function":
        raise RequestError(
            "tool_choice must be 'auto', 'none', 'required', or an object of type 'function' or 'allowed_tools'",
            param="tool_choice",
        )
    return {"type": "function", "function": {"name": _named(choice, functions, "tool_choice.name")}}


def _allowed(functions: Mapping[str, Any], choice: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Only the tools allowed, and the mode: what every upstream understands, to the same effect."""
    allowed, mode = choice.get("tools"), choice.get("mode")
    if mode not in ("auto", "required"):
        raise RequestError("tool_choice.mode must be 'auto' or 'required'", param="tool_choice.mode")
    if not allowed or not list_of(dict)(allowed):
        raise wrong("tool_choice.tools", "a list of at least one object", allowed)
    names = [_named(tool, functions, f"tool_choice.tools[{i}].name") for i, tool in enumerate(allowed)]
    return {name: functions[name] for name in names}, mode


def _named(tool: Mapping[str, Any], functions: Mapping[str, Any], param: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or name not in functions:
        raise RequestError(f"{param} must be the name of one of tools", param=param)
    return name


_TOOL: Checks = {
    "description": (of(str), "a string"),
    "parameters": (of(dict), "a JSON schema"),
    "strict": (of(bool), "true or false"),
}

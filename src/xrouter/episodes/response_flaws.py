"""What is plainly wrong with a response, whatever it answers: nothing said, refused, cut off, given up, the wrong format.

Recorded outcomes hold next to none of these, so how much each says about being right cannot be learned from them. They
are facts about a response with an effect that is stated (`policies.doubt`), and found with precision first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from ..messages import Completion, Request
from .call_answers import offers_functions
from .refusals import is_admission, is_refusal
from .schema_check import violates

Flaw = Literal["empty", "refused", "truncated", "gave_up", "broken_format"]

ASKED_TO_BE_BRIEF = 32
"""A client that allows no more output tokens than this wants a probe of the line or a label: being cut is no flaw then."""
_SPEAKS_OTHERWISE = ("audio", "function_call", "images")
"""Fields of a message that say something without text."""


def flaws(request: Request, completion: Completion) -> frozenset[Flaw]:
    """What is wrong with this response to the client's request (before any limit that a cost cap puts on a call)."""
    found: set[Flaw] = set()
    message, text = completion.message, completion.text.strip()
    limit = request.max_output_tokens
    asked_brief = limit is not None and limit <= ASKED_TO_BE_BRIEF
    if completion.finish_reason == "length" and not asked_brief:
        found.add("truncated")
    if completion.finish_reason == "content_filter" or _says(message.get("refusal")):
        found.add("refused")
    elif text:
        found |= _by_words(request, completion, text)
    elif not _says_without_text(completion) and not asked_brief:
        found.add("empty")
    if text or completion.tool_calls:
        found |= _by_format(request, completion, text)
    return frozenset(found)


def leaves_no_answer(found: frozenset[Flaw]) -> bool:
    """Whether a response with these flaws answers nothing, whatever can be read in it."""
    return bool(found - {"truncated"})


def _by_words(request: Request, completion: Completion, text: str) -> set[Flaw]:
    """A refusal in words is an answer where functions were offered: none of them fits."""
    if completion.tool_calls or text[0] in "{[<`" or offers_functions(request):
        return set()
    if is_refusal(text, request.text):
        return {"refused"}
    return {"gave_up"} if is_admission(text, request.text) else set()


def _by_format(request: Request, completion: Completion, text: str) -> set[Flaw]:
    if completion.tool_calls:
        return (
            {"broken_format"} if any(_is_bad_call(request, call) for call in completion.tool_calls) else set()
        )
    if request.params.get("tools") and _must_call(request.params.get("tool_choice")):
        return {"broken_format"}
    return (
        {"broken_format"} if _breaks_response_format(request.params.get("response_format"), text) else set()
    )


def _breaks_response_format(wanted: Any, text: str) -> bool:
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind not in ("json_object", "json_schema"):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return True
    if kind == "json_object":
        return not isinstance(value, dict)
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    return schema is not None and violates(value, schema)


def _is_bad_call(request: Request, call: Any) -> bool:
    """A call of a function that was not offered, or whose arguments are no JSON object or lack what is required."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return False
    offered = _offered(request)
    if not offered or function.get("name") not in offered:
        return bool(offered)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            return True
    if not isinstance(arguments, Mapping):
        return arguments is not None
    parameters = offered[function["name"]]
    required = parameters.get("required") if isinstance(parameters, Mapping) else None
    return isinstance(required, list) and any(name not in arguments for name in required)


def _offered(request: Request) -> dict[str, Any]:
    """Parameters of each function that the request's `tools` and `functions` offer, by name."""
    tools = request.params.get("tools")
    functions = request.params.get("functions")
    described = (
        [tool.get("function") for tool in tools if isinstance(tool, Mapping)]
        if isinstance(tools, list)
        else []
    )
    described += functions if isinstance(functions, list) else []
    return {
        function["name"]: function.get("parameters")
        for function in described
        if isinstance(function, Mapping) and isinstance(function.get("name"), str)
    }


def _must_call(tool_choice: Any) -> bool:
    return tool_choice == "required" or (
        isinstance(tool_choice, Mapping) and tool_choice.get("type") == "function"
    )


def _says(refusal: Any) -> bool:
    return isinstance(refusal, str) and bool(refusal.strip())


def _says_without_text(completion: Completion) -> bool:
    """Calls, other media, or an answer that a recording knows without its words."""
    message = completion.message
    content = message.get("content")
    other_parts = isinstance(content, list) and any(
        isinstance(part, Mapping) and part.get("type") != "text" for part in content
    )
    known = bool(completion.tool_calls) or completion.answer is not None
    return known or other_parts or any(message.get(name) for name in _SPEAKS_OTHERWISE)

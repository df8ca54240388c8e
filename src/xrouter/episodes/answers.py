"""What a response answers: the one place where free text becomes something that can be compared.

In this order: tool calls; a JSON object's "answer" field; \\boxed{}; "#### x" and "the answer is x"; an option
letter that stands alone; the last number of a response to a numeric question; a response of a few words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .agreement import agreement_classes, best_response
from .call_answers import NO_CALL, answer_where_offered, normal_form
from .function_calls import written_calls
from .normal_form import normalise
from .tool_answers import canonical_calls, message_calls

__all__ = [
    "agreement_classes",
    "asks_for_number",
    "best_response",
    "comparable_answer",
    "extract_answer",
    "marked_answer",
    "normalise",
]

MAX_SHORT_WORDS = 8
MAX_ANSWER_CHARACTERS = 400
MAX_FIELD_CHARACTERS = 4_000

_FIELD = re.compile(r"""["'](?:final[_ ]?)?answer["']\s*:\s*""", re.IGNORECASE)
_TRUNCATED_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"?')
_LATEX_ESCAPE = re.compile(
    r"(?<!\\)\\(?=(?:frac|forall|boxed|begin|binom|bar|beta|text|times|theta|tan|tau|tfrac|to|right|rho|neq|not|nu)(?![a-z]))"
)
"""LaTeX commands that JSON would take for a control character; a model that writes them forgot to escape."""
_BOXED = re.compile(r"\\f?boxed\s*(\{|\S)")
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_PHRASE = re.compile(
    r"(?:answer|option|choice)(?<=\b.{6})"
    r"(?:\s+(?:is|would be|must be|should be|to (?:the|this) (?:question|problem) is)\b[ \t]*:?|\**[ \t]*:\**)"
    r"(?:\s*\**(?:option|choice)\b)?[ \t]*\n?[ \t]*(?=(\S[^\n]{0,400}))",
    re.IGNORECASE,
)
_LETTER_ALONE = re.compile(
    r"\**(?:option\s+|choice\s+)?(?:\(([A-J])\)|([A-J])(?=[).:*]|$))\**(?:[).:].{0,200})?", re.IGNORECASE
)
_LEADING_LETTER = re.compile(
    r"\**\(?([A-J])(?:\)|\.(?=\s|$)|:|(?=\s*(?:$|[,;*—–]|\s-\s|because\b|since\b|as\b)))"
)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?%?(?![\w])")
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|fast|often|heavy)\b|\bwhat (?:is|was|are|will be) the (?:\w+ ){0,4}"
    r"(?:number|sum|product|total|value|probability|area|volume|length|distance|percentage|percent|average|mean|"
    r"difference|cost|price|remainder|ratio|perimeter|speed|age)\b|\b(?:calculate|compute|evaluate)\b|"
    r"\bfind the (?:\w+ ){0,4}(?:number|sum|product|total|value|area|volume|length|remainder|probability)\b|\d\s*[-+*/×÷=]\s*\d",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"=|≈|\b(?:so|therefore|thus|hence|in total|altogether|result)\b", re.IGNORECASE)


def comparable_answer(
    text: str,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    *,
    question: str = "",
    functions_offered: bool = False,
) -> str | None:
    """What a response answers, so that equal answers are equal strings; None where it answers nothing.

    Where functions were offered, calls in the message and calls in the text compare alike, and making none is an
    answer: `call_answers.NO_CALL`.
    """
    if not functions_offered:
        found = extract_answer(text, tool_calls, question=question)
        return None if found is None else normalise(found)
    if tool_calls:
        return normal_form(message_calls(tool_calls))
    answer = answer_where_offered(text)
    if answer not in (NO_CALL, text.strip()):
        return answer
    found = extract_answer(text, question=question)
    return answer if found is None else answer_where_offered(normalise(found))


def extract_answer(
    text: str, tool_calls: Sequence[Mapping[str, Any]] = (), *, question: str = ""
) -> str | None:
    """What a response answers, as it wrote it (see `normalise`); None where it answers nothing.

    `question` tells whether a number is asked for. Without it a bare last number counts only in a closing
    sentence that draws a conclusion, so that a year in an essay is not taken for its answer.
    """
    if tool_calls:
        return canonical_calls(message_calls(tool_calls))
    text = text.strip()
    if not text:
        return None
    calls = written_calls(text)
    if calls is not None:
        return canonical_calls(calls)
    for find in (_json_answer, _boxed, _hashes, _phrase, _lone_letter):
        answer = find(text)
        if answer is not None and len(answer) <= MAX_ANSWER_CHARACTERS:
            return answer
    return _number_or_short_text(text, question)


def marked_answer(text: str) -> str | None:
    """The answer that a text marks as such (a JSON field, \\boxed{}, "####", "the answer is"), normalised; else None.

    For texts that were cut off: their last number or few words are no answer.
    """
    for find in (_json_answer, _boxed, _hashes, _phrase):
        answer = find(text)
        if answer is not None and len(answer) <= MAX_ANSWER_CHARACTERS:
            return normalise(answer)
    return None


def asks_for_number(question: str) -> bool:
    """Whether a question reads as if a number were the answer (how many, compute, the sum of, 3 + 4)."""
    return _ASKS_NUMBER.search(question) is not None


def _json_answer(text: str) -> str | None:
    """The last "answer" field of any JSON in the text, fenced, broken or cut short."""
    found = None
    for match in _FIELD.finditer(text):
        value = _json_value(text[match.end() : match.end() + MAX_FIELD_CHARACTERS])
        if value is not None:
            found = value
    return found


def _json_value(rest: str) -> str | None:
    rest = _LATEX_ESCAPE.sub(r"\\\\", rest)
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(rest)
    except (ValueError, RecursionError):
        value = _broken_value(rest)
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _broken_value(rest: str) -> str | None:
    """A value that is not valid JSON: LaTeX's backslashes unescaped, a cut string, single quotes, bare words."""
    string = _TRUNCATED_STRING.match(rest)
    if string:
        return string[1].replace('\\"', '"')
    if rest.startswith("'"):
        return rest[1:].split("'")[0]
    return re.split(r"[,}\n]", rest, maxsplit=1)[0]


def _boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}, braces within included."""
    for match in reversed(list(_BOXED.finditer(text))):
        if match[1] != "{":
            return match[1]
        depth = 0
        for end in range(match.start(1), len(text)):
            if text[end] in "{}" and text[end - 1] != "\\":
                depth += 1 if text[end] == "{" else -1
            if depth == 0:
                return text[match.end(1) : end].strip() or None
    return None


def _hashes(text: str) -> str | None:
    """GSM8K's own ending, `#### 42`; a Markdown heading of several words is not one."""
    found = _HASHES.findall(text)
    return found[-1].strip() if found and (len(found[-1].split()) <= 2) else None


def _phrase(text: str) -> str | None:
    """What follows the last "the answer is" or "Answer:", to the end of its sentence."""
    for match in reversed(list(_PHRASE.finditer(text))):
        rest = match[1].strip()
        letter = _LEADING_LETTER.match(rest)
        if letter:
            return letter[1]
        sentence = re.split(r"(?<=[^\s.])[.!?](?:\s|\**$)|\s(?:because|since)\b", rest, maxsplit=1)[0]
        answer = sentence.strip().strip("*").strip()
        if answer and len(answer.split()) <= 3 * MAX_SHORT_WORDS:
            return answer
    return None


def _lone_letter(text: str) -> str | None:
    """An option letter that is the whole response, its first line or its last: (C), C., C) photosynthesis."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in dict.fromkeys((lines[-1], lines[0])):
        match = _LETTER_ALONE.fullmatch(line)
        if match and (match[1] or match[2]).isupper():
            return match[1] or match[2]
    return None


def _number_or_short_text(text: str, question: str) -> str | None:
    if _NUMBER.search(text) and asks_for_number(question):
        return [match[0].strip() for match in _NUMBER.finditer(text)][-1]
    if len(text.split()) <= MAX_SHORT_WORDS and "\n" not in text:
        return text
    closing = re.split(r"(?<=[.!?])\s+|\n", text.rstrip())[-1]
    concluded = [match[0].strip() for match in _NUMBER.finditer(closing)]
    if concluded and not question and _CONCLUDES.search(closing):
        return concluded[-1]
    return None

"""What a routing language model said, read into an action: everything that can be wrong with it is named and counted.

Pure functions of the reply and the observation; nothing here asks a model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..catalog.model import Model
from ..episodes.actions import (
    EMPTY,
    MAX_NAME_LENGTH,
    SELECT,
    read_call,
    read_selection,
    tool_names,
)
from ..episodes.episode import (
    Action,
    Call,
    CallModels,
    DirectAnswer,
    Observation,
    Response,
    Select,
    Step,
    Synthesis,
)
from ..errors import InvalidActionError
from ..messages import Completion, Message
from ..settings_tables.router_llm import CallArgument
from .router_instructions import own_words_barred_by
from .router_message import (
    CALL_MARKS,
    AskedCall,
    before_calls,
    calls_in_text,
    made_id,
    native_calls,
    shown_message,
    without_thinking,
)
from .router_view import client_tool_names


@dataclass(frozen=True, slots=True)
class Reply:
    """message: the reply as the router is shown it again, its calls as `tool_calls` however it wrote them.

    action: what is to be done; None where `error` says why nothing can be.
    problems: kinds of what was wrong, and how often; `refused`: tool call id -> what is told of a call not carried out.
    """

    message: Message
    action: Action | None = None
    error: InvalidActionError | None = None
    problems: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def read_reply(
    completion: Completion,
    observation: Observation,
    offered: Sequence[Model],
    *,
    max_calls: int,
    arguments: Collection[CallArgument] = (),
    tools_in_text: bool = False,
) -> Reply:
    """The first fitting of: calls, a selection, own words.

    offered: the models that were offered as tools, with these arguments; tools_in_text: they were asked for in the text, so calls there are right.
    """
    turn = len(observation.steps) + 1
    text = without_thinking(completion.text)
    asked, problems = native_calls(completion, turn), Counter[str]()
    if not asked:
        written = calls_in_text(text, offered)
        if written:
            if not tools_in_text:
                problems["call_in_text"] += len(written)
            text = before_calls(text)
            asked = [
                AskedCall(made_id(turn, i), name, arguments) for i, (name, arguments) in enumerate(written, 1)
            ]
    message = shown_message(text, asked)
    if not asked:
        error = _bar_to_own_words(text, completion, observation, offered)
        if error is not None:
            return Reply(message, error=error, problems={error.kind: 1})
        own = Synthesis(text) if observation.responses else DirectAnswer(text)
        return Reply(message, own)
    reading = _Reading(observation, offered, max_calls, arguments, problems)
    return _read_calls(asked, message, reading, observation, offered)


def answered(step: Step) -> list[tuple[Call, Response | None]]:
    """Each call of a step with the response it brought, None where it was refused."""
    if not isinstance(step.decision.action, CallModels):
        return []
    left = list(step.responses)
    pairs: list[tuple[Call, Response | None]] = []
    for call in step.decision.action.calls:
        found = next((response for response in left if response.model == call.model), None)
        if found is not None:
            left.remove(found)
        pairs.append((call, found))
    return pairs


def _bar_to_own_words(
    text: str, completion: Completion, observation: Observation, offered: Sequence[Model]
) -> InvalidActionError | None:
    """Why a reply without a readable call is no answer either; None if it is one."""
    barred = own_words_barred_by(observation.request)
    limit = observation.request.max_output_tokens
    cut = completion.finish_reason == "length"
    if CALL_MARKS.search(text):
        return InvalidActionError(
            "the tool call cannot be read: write one JSON object with name and arguments",
            kind="malformed_call",
        )
    if cut and not text.strip():
        return InvalidActionError("the reply was cut before it said anything: be brief", kind="cut")
    if not text.strip():
        return InvalidActionError(EMPTY, kind="empty")
    if any(_names(tool, text) for tool in (*tool_names(offered), SELECT)):
        return InvalidActionError(
            "plain text is the final answer and this one speaks of your tools: to use one, call it",
            kind="prose",
        )
    if barred is not None:
        return InvalidActionError(
            f"plain text cannot answer this request ({barred}): call a model or select a response",
            kind="own_words",
        )
    if cut:
        return InvalidActionError(
            "the answer was cut at the token limit: be brief, call a model or select a response", kind="cut"
        )
    written = completion.usage.completion_tokens - completion.usage.reasoning_tokens
    if limit is not None and written > limit:
        return InvalidActionError(
            f"the answer is longer than the {limit} tokens that the user allows: be brief or call a model",
            kind="too_long",
        )
    return None


def _names(tool: str, text: str) -> bool:
    return tool in text and re.search(rf"(?<![\w-]){re.escape(tool)}(?![\w-])", text) is not None


def _read_calls(
    asked: Sequence[AskedCall],
    message: Message,
    reading: _Reading,
    observation: Observation,
    offered: Sequence[Model],
) -> Reply:
    names = tool_names(offered)
    selections = [call for call in asked if call.name == SELECT]
    if selections and len(asked) > 1:
        error = InvalidActionError(
            f"{SELECT} must be the only tool call of its turn, got {len(asked)} calls",
            kind="select_with_calls",
        )
        return reading.failed(message, error)
    client_tools = set(client_tool_names(observation.request))
    for call in asked:
        try:
            if call.name == SELECT and not observation.preference.simple:
                selection = _known(read_selection(call.arguments), observation.responses)
                return Reply(message, selection, problems=dict(reading.problems))
            if call.name in client_tools and call.name not in names:
                raise InvalidActionError(
                    f"{call.name[:MAX_NAME_LENGTH]} is a tool of the user's application: call a model, which may use it",
                    kind="client_tool",
                )
            if not call.name:
                raise InvalidActionError(
                    "a tool call must have a function with a name and arguments", kind="malformed_call"
                )
            reading.take(call.id, read_call(call.name, call.arguments, names, reading.arguments))
        except InvalidActionError as error:
            reading.refuse(call.id, error)
    return reading.result(message)


def _known(selection: Select, responses: Sequence[Response]) -> Select:
    """Raises InvalidActionError where there is no such response, or it is a failure."""
    chosen = next((response for response in responses if response.call_id == selection.call_id), None)
    if chosen is None:
        known = ", ".join(response.call_id for response in responses if response.ok) or "none yet"
        raise InvalidActionError(
            f"no response has call_id {selection.call_id[:MAX_NAME_LENGTH]!r}; there are: {known}",
            kind="unknown_call_id",
        )
    if not chosen.ok:
        raise InvalidActionError(
            f"call {chosen.call_id} failed and cannot be the answer", kind="selected_failure"
        )
    return selection


class _Reading:
    """Sorts the calls of one reply into those to be made and those that are not."""

    def __init__(
        self,
        observation: Observation,
        offered: Sequence[Model],
        max_calls: int,
        arguments: Collection[CallArgument],
        problems: Counter[str],
    ) -> None:
        self.arguments = arguments
        self.problems = problems
        self._models = {model.name: model for model in offered}
        self._most = 1 if observation.preference.simple else max_calls
        self._own_temperature = observation.request.params.get("temperature") is not None
        self._before = [pair for step in observation.steps for pair in answered(step)]
        self._calls: list[Call] = []
        self._refused: dict[str, str] = {}
        self._first: InvalidActionError | None = None

    def refuse(self, id_: str, error: InvalidActionError) -> None:
        self._first = self._first or error
        self.problems[error.kind] += 1
        self._refused[id_] = error.message

    def take(self, id_: str, call: Call) -> None:
        """Raises InvalidActionError for a call that would bring nothing new, and for one too many."""
        if call.temperature is not None and (self._own_temperature or self._models[call.model].reasoning):
            # The client's own temperature stands, and models that think refuse one.
            call = replace(call, temperature=None)
            self.problems["temperature_dropped"] += 1
        if not call.temperature:
            earlier = next((r for made, r in self._before if made == call and r is not None and r.ok), None)
            if earlier is not None:
                raise InvalidActionError(
                    f"{call.model} was called like this before and answered as {earlier.call_id}: "
                    f"select that response, or call {'differently' if self.arguments else 'another model'}",
                    kind="repeated_call",
                )
            if call in self._calls:
                raise InvalidActionError(
                    f"{call.model} is called like this already in this turn", kind="repeated_call"
                )
        if len(self._calls) >= self._most:
            raise InvalidActionError(f"not called: {self._most} at once is the limit", kind="too_many_calls")
        self._calls.append(call)

    def failed(self, message: Message, error: InvalidActionError) -> Reply:
        self.problems[error.kind] += 1
        return Reply(message, error=error, problems=dict(self.problems))

    def result(self, message: Message) -> Reply:
        if not self._calls:
            return Reply(message, error=self._first, problems=dict(self.problems), refused=self._refused)
        return Reply(
            message, CallModels(tuple(self._calls)), problems=dict(self.problems), refused=self._refused
        )

"""What the router reads first of a sample: made by the very policy that serves, so that what is trained is what is served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...catalog.model import Model
from ...episodes.episode import Observation, Preference
from ...errors import ProviderRequestError
from ...messages import Chunk, Completion, Request, text_of
from ...policies.tool_calling import ToolCallingPolicy
from ...settings_tables.router_llm import RouterLLMSettings
from ..trained_model import trained_model


@dataclass(frozen=True, slots=True)
class FirstTurn:
    """messages: role and content alone. tools: OpenAI's schemas. whole: nothing of the conversation was cut."""

    messages: tuple[dict[str, str], ...]
    tools: tuple[dict[str, Any], ...]
    whole: bool


class Prompter:
    """Makes first turns of a router with these settings."""

    def __init__(self, options: RouterLLMSettings) -> None:
        self._policy = ToolCallingPolicy(_Nobody(), trained_model(options), options)

    def first_turn(self, request: Request, pool: Sequence[Model], preference: Preference) -> FirstTurn:
        models = tuple(pool)
        observation = Observation(request, models, preference, (), preference.max_turns)
        asked = self._policy.request(observation, models)
        messages = tuple({"role": str(m["role"]), "content": text_of(m["content"])} for m in asked.messages)
        read = sum(len(message["content"]) for message in messages[1:])
        if self._policy.options.system_messages == "merged":
            read += sum(len(text_of(m.get("content"))) for m in request.messages if m["role"] == "system")
        said = sum(len(text_of(message.get("content"))) for message in request.messages)
        return FirstTurn(messages, tuple(asked.params.get("tools", ())), read >= said)


class _Nobody:
    """In place of an endpoint: first turns are written, never sent."""

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        raise ProviderRequestError("a data set is made without asking the router", model=model.name)

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("a data set is made without asking the router", model=model.name)

    async def aclose(self) -> None: ...

"""Which models of a pool can take a request at all: what no policy may overrule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..catalog.model import Model
from ..errors import RequestError
from ..messages import Request
from .cost import estimate_prompt_tokens

MEDIA: Mapping[str, str] = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "video_url": "video",
    "file": "file",
    "input_file": "file",
}
"""The modality that a content part of each type needs."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model. prompt_tokens: estimated."""

    prompt_tokens: int
    tools: bool
    json_schema: bool
    modalities: frozenset[str]

    @classmethod
    def of(cls, request: Request) -> Needs:
        response_format = request.params.get("response_format")
        return cls(
            prompt_tokens=estimate_prompt_tokens(request),
            tools=bool(request.params.get("tools") or request.params.get("functions")),
            json_schema=isinstance(response_format, Mapping) and response_format.get("type") == "json_schema",
            modalities=modalities_of(request),
        )

    def unmet_by(self, model: Model) -> str | None:
        """Why the model cannot take the request; None if it can."""
        if self.tools and not model.tools:
            return "it takes no tools"
        if self.json_schema and not model.structured_output:
            return "it takes no JSON schema"
        missing = self.modalities.difference(model.modalities)
        return f"it takes no {' or '.join(sorted(missing))} input" if missing else None

    def too_long_for(self, model: Model) -> str | None:
        """Why the prompt is thought not to fit the model; None if it fits."""
        if self.prompt_tokens < model.context_window:
            return None
        return f"its context window is {model.context_window} tokens, the prompt about {self.prompt_tokens}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Models that a request may use, by name; None = all. tags: every one of them must be a tag of the model."""

    allowed: Collection[str] | None = None
    forbidden: Collection[str] = ()
    tags: Collection[str] = ()

    def excludes(self, model: Model) -> str | None:
        if self.allowed is not None and model.name not in self.allowed:
            return "it is not among the models allowed"
        if model.name in self.forbidden:
            return "it is forbidden"
        missing = [tag for tag in self.tags if tag not in model.tags]
        return f"it is not tagged {missing[0]!r}" if missing else None


EVERYTHING = Scope()


def eligible(
    models: Sequence[Model],
    request: Request,
    scope: Scope = EVERYTHING,
    unhealthy: Mapping[str, str] | None = None,
) -> tuple[frozenset[str], dict[str, str]]:
    """(names of the models that can take the request, why each of the others cannot).

    unhealthy: models that would fail just now, with the reason.
    Models whose window seems too small, and unhealthy ones, are left out only while others remain: the length is an
    estimate, and a model that may have come back is better than none.
    """
    needs = Needs.of(request)
    reasons: dict[str, str] = {}
    for model in models:
        why = scope.excludes(model) or needs.unmet_by(model)
        if why is not None:
            reasons[model.name] = why
    able = [model for model in models if model.name not in reasons]
    doubts = {model.name: why for model in able if (why := needs.too_long_for(model)) is not None}
    for doubtful in (doubts, unhealthy or {}):
        rest = [model for model in able if model.name not in doubtful]
        if rest and len(rest) < len(able):
            reasons |= {model.name: doubtful[model.name] for model in able if model.name in doubtful}
            able = rest
    return frozenset(model.name for model in able), reasons


def nobody_eligible(reasons: Mapping[str, str]) -> RequestError:
    """What to tell a client whose request no model can take."""
    said = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:8])
    return RequestError(f"no model of the pool can take this request ({said})", param="model")


def modalities_of(request: Request) -> frozenset[str]:
    """Kinds of input beyond text."""
    return frozenset(
        MEDIA[kind]
        for message in request.messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if (kind := _kind(part)) in MEDIA
    )


def _kind(part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) else ""

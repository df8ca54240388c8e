"""A user's own checks before and after a call, named by dotted path in the settings.

    def before(request: Request) -> Request | None
    def after(request: Request, completion: Completion) -> Completion | None

Either may be `async`. None lets pass, a new object takes the old one's place, and raising
`errors.GuardrailRefusal("why")` refuses; its text goes to the client.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..dotted import load_callable
from ..errors import GuardrailError, GuardrailRefusal
from ..messages import Completion, Request
from ..settings_tables.guardrails import GuardrailSettings, OnError

logger = logging.getLogger("xrouter.guardrails")

T = TypeVar("T", Request, Completion)


@dataclass(frozen=True, slots=True)
class Hook:
    """`name` is what messages call it: its dotted path."""

    name: str
    call: Callable[..., Any]


class Guardrails:
    """Runs hooks in their order, each on what the one before it let pass.

    A plain function runs on a thread, so that it cannot hold up other requests; past `timeout_s` it is left to itself.
    on_error: "refuse" answers a request with an error where a hook fails or is late, "pass" goes on without that hook.
    """

    def __init__(
        self,
        before: Sequence[Hook] = (),
        after: Sequence[Hook] = (),
        *,
        on_error: OnError = "refuse",
        timeout_s: float = 5.0,
    ) -> None:
        self._before = tuple(before)
        self._after = tuple(after)
        self._on_error = on_error
        self._timeout_s = timeout_s

    @classmethod
    def load(cls, settings: GuardrailSettings) -> Guardrails:
        """Raises ConfigurationError where a path leads nowhere."""
        return cls(
            _load(settings.before, "guardrails.before"),
            _load(settings.after, "guardrails.after"),
            on_error=settings.on_error,
            timeout_s=settings.timeout_s,
        )

    @property
    def checks_requests(self) -> bool:
        return bool(self._before)

    @property
    def checks_answers(self) -> bool:
        """Then no part of an answer may leave before it is whole, streams included."""
        return bool(self._after)

    async def before(self, request: Request) -> Request:
        """The request as the hooks leave it. Raises GuardrailRefusal or GuardrailError."""
        for hook in self._before:
            request = await self._run(hook, Request, request, request)
        return request

    async def after(self, request: Request, completion: Completion) -> Completion:
        """The answer as the hooks leave it. Raises GuardrailRefusal or GuardrailError."""
        for hook in self._after:
            completion = await self._run(hook, Completion, completion, request, completion)
        return completion

    async def _run(self, hook: Hook, kind: type[T], value: T, *arguments: Any) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await _call(hook.call, arguments)
            if result is None:
                return value
            if isinstance(result, kind):
                return result
            raise TypeError(f"returned {type(result).__name__}, not {kind.__name__} or None")
        except GuardrailRefusal:
            raise
        # The boundary to the user's own code. Its error may quote the prompt, so that only its class is told.
        except Exception as error:
            late = isinstance(error, TimeoutError)
            what = f"took longer than {self._timeout_s:g} s" if late else f"failed ({type(error).__name__})"
            logger.warning("guardrail %s %s", hook.name, what)
            if self._on_error == "pass":
                return value
            raise GuardrailError(
                f"guardrail {hook.name} {what}, and guardrails.on_error is 'refuse'"
            ) from error


async def _call(hook: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
        return await hook(*arguments)
    result = await asyncio.to_thread(hook, *arguments)
    return await result if inspect.isawaitable(result) else result


def _load(paths: Sequence[str], setting: str) -> list[Hook]:
    return [Hook(path, load_callable(path, setting=setting)) for path in paths]

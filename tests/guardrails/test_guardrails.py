from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from xrouter.errors import ConfigurationError, GuardrailError, GuardrailRefusal
from xrouter.guardrails.guardrails import Guardrails, Hook
from xrouter.messages import Completion, Request, Usage
from xrouter.settings_tables.guardrails import GuardrailSettings

REQUEST = Request.from_text("my secret question")
ANSWER = Completion({"role": "assistant", "content": "42"}, Usage())


def shout(request: Request) -> Request:
    return Request.from_text(request.query.upper())


async def polite(request: Request) -> Request:
    return Request.from_text(f"{request.query}, please")


class Replace:
    async def __call__(self, request: Request, completion: Completion) -> Completion:
        return Completion({"role": "assistant", "content": f"{completion.text} ({request.query})"}, Usage())


def refuse(*arguments: Any) -> None:
    raise GuardrailRefusal("no secrets here")


def fail(*arguments: Any) -> None:
    raise ValueError(f"cannot read {arguments}")


def hooks(*functions: Any) -> list[Hook]:
    return [Hook(f"mine:{getattr(f, '__name__', 'hook')}", f) for f in functions]


async def test_without_hooks_everything_passes() -> None:
    none = Guardrails()
    assert await none.before(REQUEST) is REQUEST
    assert await none.after(REQUEST, ANSWER) is ANSWER
    assert not none.checks_requests
    assert not none.checks_answers


async def test_hooks_change_in_their_order() -> None:
    both = Guardrails(hooks(shout, lambda request: None, polite), hooks(Replace(), Replace()))
    assert (await both.before(REQUEST)).query == "MY SECRET QUESTION, please"
    assert (await both.after(Request.from_text("q"), ANSWER)).text == "42 (q) (q)"
    assert both.checks_requests
    assert both.checks_answers


@pytest.mark.parametrize("on_error", ["refuse", "pass"])
async def test_a_refusal_stands_whatever_on_error_says(on_error: Any) -> None:
    never: list[Request] = []
    guardrails = Guardrails(hooks(refuse, never.append), hooks(refuse), on_error=on_error)
    for check in (guardrails.before(REQUEST), guardrails.after(REQUEST, ANSWER)):
        with pytest.raises(GuardrailRefusal, match="no secrets here") as caught:
            await check
        assert (caught.value.status, caught.value.code) == (400, "guardrail_refused")
    assert never == []


async def slow(*arguments: Any) -> None:
    await asyncio.sleep(60)


def slow_thread(*arguments: Any) -> None:
    time.sleep(0.3)


@pytest.mark.parametrize("hook", [fail, slow, slow_thread, lambda *arguments: "yes"])
async def test_a_hook_that_fails_or_is_late(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    closed = Guardrails(hooks(hook), hooks(hook), timeout_s=0.05)
    for check in (closed.before(REQUEST), closed.after(REQUEST, ANSWER)):
        with pytest.raises(GuardrailError) as caught:
            await check
        assert caught.value.status == 500
        assert "secret" not in str(caught.value)
    opened = Guardrails(hooks(hook, shout), hooks(hook, Replace()), on_error="pass", timeout_s=0.05)
    assert (await opened.before(REQUEST)).query == "MY SECRET QUESTION"
    assert (await opened.after(REQUEST, ANSWER)).text == "42 (my secret question)"
    assert "mine:" in caplog.text
    assert "secret" not in caplog.text


async def test_a_plain_function_does_not_hold_up_the_loop() -> None:
    threads = []
    guardrails = Guardrails(hooks(lambda request: threads.append(threading.current_thread())))
    await guardrails.before(REQUEST)
    assert threads[0] is not threading.main_thread()


async def test_cancelling_the_request_cancels_the_check() -> None:
    task = asyncio.create_task(Guardrails(hooks(slow), on_error="pass").before(REQUEST))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "mychecks.py").write_text("def before(request):\n    return None\nlimit = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    loaded = Guardrails.load(GuardrailSettings(before=("mychecks:before",)))
    assert await loaded.before(REQUEST) is REQUEST
    for path in ("mychecks:after", "mychecks:limit", "nowhere.at.all:before", "mychecks"):
        with pytest.raises(ConfigurationError, match=r"guardrails\.after"):
            Guardrails.load(GuardrailSettings(after=(path,)))

"""One call whose answer is handed over while the model still writes it."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Protocol

from ..catalog.model import Model
from ..deadlines import within
from ..errors import ProviderError, ProviderTimeoutError
from ..messages import Block
from ..providers.pool import Pool
from ..providers.streams import open_stream
from .calls import PlannedCall, billed_usage, failed_response, good_response, unfinished, with_side_calls
from .episode import Response
from .transcript import Transcript


class Sink(Protocol):
    """Takes what a model streams, block by block; where a slow client is to be waited for it returns that wait."""

    def __call__(self, model: Model, block: Block) -> Awaitable[None] | None: ...


async def stream_one(
    call: PlannedCall, pool: Pool, turn: int, time_left_s: float | None, sink: Sink, responses: list[Response]
) -> None:
    """Make the call and pass every block to `sink`; append what came of it to `responses`.

    A call that fails, or is not finished after `time_left_s` seconds, becomes a failed response, marked `partial`
    once a block has been passed on. What had been written by then is counted.
    """
    started = time.monotonic()
    call = call.noting_side_calls()
    transcript = Transcript()
    fault: ProviderError | None = None
    opened = None
    ended = False

    def take(block: Block) -> Awaitable[None] | None:
        transcript.read(block)
        return sink(call.model, block)

    try:
        with within(time_left_s) as deadline:
            opened = await open_stream(
                pool.provider_of(call.model), call.model, call.request, timeout_s=time_left_s
            )
            await opened.pass_on(take)
        ended = True
    except ProviderError as error:
        fault = error
    except TimeoutError:
        if not deadline.expired():
            raise
        fault = ProviderTimeoutError(
            f"model {call.model.name!r} was still answering after {time_left_s:g} s", model=call.model.name
        )
    finally:
        if opened is not None:
            await opened.aclose()
        seconds = time.monotonic() - started
        if ended and opened is not None:
            completion = transcript.completion(opened.usage, seconds, opened.endpoint)
            response = good_response(call, turn, completion)
        else:
            fault = fault or unfinished(call, seconds)
            written = opened.usage if opened is not None and transcript.begun else None
            response = failed_response(call, turn, billed_usage(call, fault, written), seconds, fault)
            response = replace(response, partial=transcript.begun)
        responses.append(with_side_calls(call, response))

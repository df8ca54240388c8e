"""One call whose answer is handed over while the model still writes it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from ..catalog.model import Model
from ..errors import ProviderError, ProviderTimeoutError
from ..messages import Chunk
from ..providers.pool import Pool
from .calls import PlannedCall, billed_usage, failed_response, good_response, unfinished
from .episode import Response
from .transcript import Transcript


class Sink(Protocol):
    """Takes what a model streams. Called with nothing until a first piece is there; may wait for a slow client."""

    async def __call__(self, model: Model, chunk: Chunk) -> None: ...


async def stream_one(
    call: PlannedCall, pool: Pool, turn: int, time_left_s: float | None, sink: Sink, responses: list[Response]
) -> None:
    """Make the call and pass every chunk to `sink`; append what came of it to `responses`.

    A call that fails, or is not finished after `time_left_s` seconds, becomes a failed response, marked `partial`
    once a chunk has been passed on. What had been written by then is counted.
    """
    started = time.monotonic()
    transcript = Transcript(call.request)
    fault: ProviderError | None = None
    ended = False
    try:
        async with asyncio.timeout(time_left_s) as deadline:
            chunks = pool.provider_of(call.model).stream(call.model, call.request, timeout_s=time_left_s)
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    transcript.read(chunk)
                    await sink(call.model, chunk)
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
        seconds = time.monotonic() - started
        written = transcript.usage if transcript.begun else None
        if ended:
            responses.append(good_response(call, turn, transcript.completion(seconds)))
        else:
            fault = fault or unfinished(call, seconds)
            response = failed_response(call, turn, billed_usage(call, fault, written), seconds, fault)
            responses.append(replace(response, partial=transcript.begun))

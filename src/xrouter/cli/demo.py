"""xrouter demo: the gateway on a real socket, a handful of real requests through it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .serve import banner

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageParam

    from ..router import Router


MAX_TOKENS = 160
"""Of each answer: small local models are known to ramble."""


@dataclass(frozen=True)
class Question:
    title: str
    text: str
    model: str = "xrouter"
    stream: bool = False


QUESTIONS = (
    Question("arithmetic", "What is 17 * 23? Reply with the number only."),
    Question("a capital", "What is the capital of France?"),
    Question("science, streamed", "Which planet is closest to the Sun?", stream=True),
    Question(
        "reasoning, preset quality",
        "Mia has 4 boxes with 12 pencils each and gives away 9 pencils. How many pencils are left?",
        model="xrouter:quality",
    ),
    Question("science, preset balanced", "What is the chemical symbol of gold?", model="xrouter:balanced"),
    Question("a capital, preset economy", "What is the capital of Norway?", model="xrouter:economy"),
)


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the requests.")] = False,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Start the gateway, send it six requests with the official `openai` client and show what each did and cost.

    Without `--once` the gateway stays up until Ctrl-C.

    Examples:

        xrouter demo

        xrouter demo --once
    """
    from ..gateway.server import loop_factory

    try:
        import openai  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "the demo talks through the official openai client: pip install 'xrouter[client]'"
        ) from error
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            answered = runner.run(_demo(once, port))
    except KeyboardInterrupt:
        # Ctrl-C is how the demo is meant to end; the gateway has shut down by now.
        typer.echo("stopped")
        return
    if not answered:
        raise typer.Exit(1)


async def _demo(once: bool, port: int) -> bool:
    """Whether every request was answered."""
    from ..gateway.app import Gateway
    from ..gateway.server import bind, running, url_of
    from ..router import Router

    listener = bind("127.0.0.1", port)
    url = url_of(listener)
    router = Router()
    typer.echo(banner(router, url))
    async with running(Gateway(router), listener) as serving:
        answered = await _ask_all(url, router)
        if not once:
            typer.echo(f"\nThe gateway is up at {url}/v1 (no key needed). Ctrl-C ends it.")
            await serving
    return answered


async def _ask_all(url: str, router: Router) -> bool:
    from openai import APIError, AsyncOpenAI

    spent, reference, answered = Decimal(0), Decimal(0), 0
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="not-needed", max_retries=0) as client:
        for number, question in enumerate(QUESTIONS, 1):
            typer.echo(f"\n{number}. {question.title}  [model: {question.model}]\n   Q: {question.text}")
            try:
                text, routing = await _ask(client, question)
            except APIError as error:
                typer.echo(f"   failed: {error.message}")
                continue
            answered += 1
            spent += Decimal(routing["cost_usd"])
            reference += Decimal(routing["reference_cost_usd"])
            typer.echo("   A: " + text.strip().replace("\n", "\n      "))
            typer.echo(_told(routing))
    typer.echo(
        f"\n{answered} of {len(QUESTIONS)} answered for ${spent:f}; {router.reference.name} alone: ${reference:f}"
    )
    return answered == len(QUESTIONS)


async def _ask(client: AsyncOpenAI, question: Question) -> tuple[str, Mapping[str, Any]]:
    """The answer's text and the `xrouter` object that came with it."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question.text}]
    if not question.stream:
        whole = await client.chat.completions.create(
            model=question.model, messages=messages, max_tokens=MAX_TOKENS
        )
        return whole.choices[0].message.content or "", (whole.model_extra or {})["xrouter"]
    pieces: list[str] = []
    routing: Mapping[str, Any] = {}
    async for chunk in await client.chat.completions.create(
        model=question.model, messages=messages, max_tokens=MAX_TOKENS, stream=True
    ):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        routing = (chunk.model_extra or {}).get("xrouter", routing)
    return "".join(pieces), routing


def _told(routing: Mapping[str, Any]) -> str:
    """Who was called in which order, why it stopped, tokens and cost."""
    route = " > ".join(" + ".join(turn) for turn in routing["route"]) or "no call"
    usage = routing["usage"]
    lines = [
        f"called   {route}; stopped: {routing['stop_reason']}"
        + (f" ({routing['degraded']})" if routing["degraded"] else ""),
        f"tokens   {usage['prompt_tokens']} in, {usage['completion_tokens']} out",
        f"cost     ${routing['cost_usd']}; {routing['reference_model']} alone ${routing['reference_cost_usd']}",
    ]
    if routing["confidence"] is not None:
        lines.append(f"trust    {routing['confidence']:.0%}")
    return "\n".join("   " + line for line in lines)

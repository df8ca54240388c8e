"""xrouter ask: one question, one answer, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .router_options import RouterKeyEnv, RouterModel, RouterPrice, RouterUrl, with_router

if TYPE_CHECKING:
    from ..answer import Answer


def ask(
    question: Annotated[str, typer.Argument(help="The question, or '-' to read it from standard input.")],
    preset: Annotated[
        str | None, typer.Option(help="quality, balanced or economy (or your own from xrouter.toml).")
    ] = None,
    cost_weight: Annotated[
        float | None, typer.Option(help="How much cost counts; 0 = quality alone. Instead of --preset.")
    ] = None,
    target_quality: Annotated[
        float | None,
        typer.Option(
            help="The cheapest way to this probability of a right answer, such as 0.95. Instead of --preset."
        ),
    ] = None,
    max_cost_usd: Annotated[str | None, typer.Option(help="Spend at most this many US dollars.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds until the answer must be there.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="A policy's name or a checkpoint; default: xrouter.toml's.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
    router_url: RouterUrl = None,
    router_model: RouterModel = None,
    router_key_env: RouterKeyEnv = None,
    router_price: RouterPrice = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask the pool one question and print the answer, the route and the cost.

    Examples:

        xrouter ask "What is 17 * 23?"

        xrouter ask "Prove that there are infinitely many primes" --preset quality

        xrouter ask "What is 17 * 23?" --target-quality 0.9

        xrouter ask "Capital of Peru?" --max-cost-usd 0.001 --json

        xrouter ask "Hello" --policy tool-calling --router-model gpt-5-mini --json

        cat question.txt | xrouter ask -
    """
    from ..router import Router
    from ..settings import load_settings

    policy, settings = with_router(
        policy, load_settings(config), router_url, router_model, router_key_env, router_price
    )
    text = typer.get_text_stream("stdin").read() if question == "-" else question
    with Router(policy, settings=settings) as router:
        if router.pool.notice and not as_json:
            typer.echo(router.pool.notice, err=True)
        answer = router.answer(
            text,
            preset=preset,
            cost_weight=cost_weight,
            target_quality=target_quality,
            max_cost_usd=max_cost_usd,
            deadline_s=deadline,
        )
    if as_json:
        typer.echo(_json(answer))
        return
    typer.echo(answer.text)
    typer.echo()
    typer.echo(summary(answer))


def summary(answer: Answer) -> str:
    """Route, reason, tokens and cost on a few lines."""
    route = " > ".join(" + ".join(turn) for turn in answer.route) or "answered by the policy itself"
    lines = [
        f"route       {route}  ({answer.stop_reason})",
        f"answered    {answer.model} in {answer.latency_s:.2f} s",
        f"tokens      {answer.usage.prompt_tokens} in, {answer.usage.completion_tokens} out",
        f"cost        ${answer.cost_usd:f}   ({answer.reference_model} alone: ${answer.reference_cost_usd:f})",
    ]
    if answer.confidence is not None:
        guess = ", a guess: unlike all that the policy was trained on" if answer.outside_training else ""
        lines.append(f"confidence  {answer.confidence:.0%}{guess}")
    if answer.degraded:
        lines.append(f"degraded    {answer.degraded}")
    return "\n".join(lines)


def _json(answer: Answer) -> str:
    import orjson

    from ..gateway.reply import xrouter_object

    shown = {"text": answer.text, "model": answer.model, **xrouter_object(answer)}
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()

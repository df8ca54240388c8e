"""Starts a gateway on a free port and calls it with the official `openai` client. Offline: the models only pretend.

Against `xrouter serve` only `ask` is needed, with base_url="http://127.0.0.1:8080/v1".
"""

from __future__ import annotations

import asyncio

from openai import AsyncOpenAI, BadRequestError

from xrouter import Router
from xrouter.gateway.app import Gateway
from xrouter.gateway.server import bind, running, url_of
from xrouter.ledger.memory import MemoryLedger
from xrouter.settings import Settings

SIMULATED = Settings(pool=("sim-small", "sim-maths", "sim-medium", "sim-large"))


async def ask(client: AsyncOpenAI) -> None:
    print("models:", ", ".join([model.id async for model in client.models.list()]))

    whole = await client.chat.completions.create(
        model="xrouter:quality",
        messages=[{"role": "user", "content": "What is 17 * 23?"}],
        extra_body={"xrouter": {"max_cost_usd": 0.01, "deadline_s": 30}},
    )
    routing = (whole.model_extra or {})["xrouter"]
    print("whole:", whole.choices[0].message.content, "from", whole.model)
    print("   route", routing["route"], "cost", routing["cost_usd"], "savings", routing["savings"])

    stream = await client.chat.completions.create(
        model="xrouter",
        messages=[{"role": "user", "content": "What is the capital of Japan?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    print("streamed: ", end="")
    async for chunk in stream:
        print("".join(choice.delta.content or "" for choice in chunk.choices), end="")
        if chunk.usage is not None:
            print(
                "\n  ",
                chunk.usage.total_tokens,
                "tokens, cost",
                (chunk.model_extra or {})["xrouter"]["cost_usd"],
            )

    try:
        await client.chat.completions.create(model="xrouter", messages=[])
    except BadRequestError as error:
        print("refused:", error.body)


async def main() -> None:
    router = Router(settings=SIMULATED, ledger=MemoryLedger())
    print(router.pool.notice)
    listener = bind("127.0.0.1", 0)
    async with (
        running(Gateway(router), listener),
        AsyncOpenAI(base_url=f"{url_of(listener)}/v1", api_key="not-needed", max_retries=0) as client,
    ):
        await ask(client)


if __name__ == "__main__":
    asyncio.run(main())

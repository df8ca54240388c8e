"""A provider of one's own: a pocket calculator joins the pool as a model. Offline: the other models only pretend.

Any object with `complete`, `stream` and `aclose` is a provider; whatever it raises on purpose is a ProviderError.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

from xrouter import Request, Router
from xrouter.catalog.catalog import Catalog
from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.errors import ProviderRequestError
from xrouter.ledger.memory import MemoryLedger
from xrouter.messages import Chunk, Completion, Usage
from xrouter.providers.build import build_pool
from xrouter.settings import Settings

SIMULATED = Settings(pool=("sim-small", "sim-large"))
CALCULATOR = Model(
    name="calculator",
    provider="pocket",
    id="calculator-1",
    tier="specialised",
    price=Price(Rates(Decimal("0.001"), Decimal("0.001")), date(2026, 1, 1), "nominal"),
    context_window=1_000,
    max_output_tokens=100,
    tools=False,
    capability=0.3,
)


class PocketCalculator:
    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        found = re.search(r"(\d+)\s*([-+*])\s*(\d+)", request.query)
        if found is None:
            raise ProviderRequestError("the calculator sees no sum in this question", model=model.name)
        left, right = int(found[1]), int(found[3])
        value = {"+": left + right, "-": left - right, "*": left * right}[found[2]]
        usage = Usage(prompt_tokens=len(request.query) // 4, completion_tokens=6, estimated=True)
        return Completion({"role": "assistant", "content": f"The answer is {value}."}, usage)

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        completion = await self.complete(model, request, timeout_s=timeout_s)
        head = {"id": "pocket", "object": "chat.completion.chunk", "created": 0, "model": model.id}
        delta = dict(completion.message)
        yield Chunk({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield Chunk(
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, completion.usage
        )

    async def aclose(self) -> None:
        """Nothing is held open."""


def main() -> None:
    simulated = build_pool(SIMULATED, Catalog.load(SIMULATED), os.environ)
    pool = replace(
        simulated,
        models=(CALCULATOR, *simulated.models),
        providers={"pocket": PocketCalculator(), **simulated.providers},
    )
    with Router("calculator", pool=pool, settings=SIMULATED, ledger=MemoryLedger()) as router:
        print(pool.notice)
        for question in ("What is 17 * 23?", "What is the capital of France?"):
            answer = router.answer(question)
            print(f"{question}  {answer.text.splitlines()[-1]}")
            for call in answer.calls:
                print(f"   {call.model}: {'answered' if call.ok else call.error}, ${call.cost_usd:f}")


if __name__ == "__main__":
    main()

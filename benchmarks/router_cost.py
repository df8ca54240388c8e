"""What a decision costs: a language model that routes, by its tokens and price, beside the network policy.

    python benchmarks/router_cost.py outcomes/mine --encoding cl100k_base

A scripted router calls one model and hands its answer over: two decisions a query, through the code that serves. The
prompts are our own, on the queries of the test split, so their tokens are measured; what a model thinks before it
replies (reasoning tokens) comes on top, and a provider's prompt cache would take off most of the second prompt.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from xrouter.catalog.catalog import Catalog
from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.errors import ProviderRequestError
from xrouter.evaluation.decision_time import decision_times
from xrouter.evaluation.tables import per_1000, table
from xrouter.evaluation.tool_calling.play import RouterRun, play_router
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.policies.checkpoint import load_network
from xrouter.policies.tool_calling import ToolCallingPolicy
from xrouter.settings import Settings
from xrouter.settings_tables.router_llm import RouterLLMSettings
from xrouter.tasks.outcomes import Outcomes, load_outcomes
from xrouter.training.dataset.tokens import estimated

Count = Callable[[str], int]
PRICED = ("gpt-5-nano", "gpt-5-mini")
"""Of the catalog; prices as it has them."""


@dataclass(frozen=True)
class Tokens:
    """Means over the queries: of the prompts of the first and the second decision, and of a reply."""

    first: float
    second: float
    reply: float

    def usd(self, price: Price) -> tuple[float, float]:
        """(a first decision, both decisions of a query)"""
        first, second = (
            float(price.cost(Usage(round(1000 * prompt), round(1000 * self.reply)))) / 1000
            for prompt in (self.first, self.second)
        )
        return first, first + second


class Scripted:
    """Calls the first model offered, then hands its answer over; counts what it is sent and says."""

    def __init__(self, count: Count | None) -> None:
        self._count = count
        self.prompts: tuple[list[int], list[int]] = ([], [])
        self.replies: list[int] = []

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        shown = [message for message in request.messages if message["role"] == "tool"]
        if shown:
            name, arguments = "select_response", {"call_id": json.loads(shown[0]["content"])["call_id"]}
        else:
            name, arguments = request.params["tools"][0]["function"]["name"], {}
        call = {"name": name, "arguments": json.dumps(arguments)}
        self.prompts[len(shown) > 0].append(self._tokens(request))
        self.replies.append(self._text_tokens(json.dumps(call)))
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t0", "type": "function", "function": call}],
        }
        return Completion(message, Usage(), "tool_calls")

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("decisions are not streamed", model=model.name)

    async def aclose(self) -> None: ...

    def _tokens(self, request: Request) -> int:
        tools = request.params["tools"]
        if self._count is None:
            return estimated(request.messages, tools)
        texts = [json.dumps(tool, ensure_ascii=False) for tool in tools]
        for message in request.messages:
            texts.append(message.get("content") or "")
            texts += [json.dumps(call["function"]) for call in message.get("tool_calls", ())]
        return sum(map(self._text_tokens, texts)) + 4 * len(request.messages)

    def _text_tokens(self, text: str) -> int:
        return -(-len(text) // 4) if self._count is None else self._count(text)


def measure(outcomes: Outcomes, options: RouterLLMSettings, count: Count | None) -> Tokens:
    """Means over all queries of `outcomes`."""
    scripted = Scripted(count)
    free = Price(Rates(Decimal(0), Decimal(0)), date(1970, 1, 1), "a script")
    model = Model("script", "script", "script", "budget", free, options.context_window, options.max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        play_router(ToolCallingPolicy(scripted, model, options), outcomes, RouterRun(), Path(folder))
    first, second = scripted.prompts
    return Tokens(_mean(first), _mean(second), _mean(scripted.replies))


def counting(encoding: str | None) -> Count | None:
    """None: the product's own estimate."""
    if encoding is None:
        return None
    import tiktoken

    found = tiktoken.get_encoding(encoding)
    return lambda text: len(found.encode(text, disallowed_special=()))


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("outcomes", type=Path, help="folder of recorded outcomes")
    parser.add_argument("--pools", default="5,10,20", help="sizes, with commas")
    parser.add_argument("--queries", type=int, default=100, help="of the test split, the first ones")
    parser.add_argument("--encoding", help="tiktoken's, such as o200k_base; default: an estimate")
    parser.add_argument("--own-price", default="0.05/0.10", help="of a model of your own, IN/OUT")
    parser.add_argument("--core-hour-usd", type=float, default=0.05, help="of a core that runs the network")
    given = parser.parse_args(arguments)

    paid, earned = given.own_price.split("/")
    own = Price(Rates(Decimal(paid), Decimal(earned)), date(1970, 1, 1), "the command line")
    catalog = Catalog.load(Settings())
    prices = {name: catalog[name].price for name in PRICED} | {f"own model at {given.own_price}": own}
    whole = load_outcomes(given.outcomes)
    count, network = counting(given.encoding), load_network()
    rows: list[tuple[str, ...]] = []
    for size in map(int, given.pools.split(",")):
        names = whole.pool().model_names[:size]
        test = whole.pool(names).split("test")
        test = test.rows(range(min(given.queries, len(test))))
        for prompt in ("full", "brief"):
            tokens = measure(test, replace(RouterLLMSettings(), **_worded(prompt)), count)
            for name, price in prices.items():
                one, both = tokens.usd(price)
                rows.append(
                    (
                        str(len(names)),
                        f"{name}, {prompt} prompt",
                        f"{tokens.first:.0f} / {tokens.second:.0f} + {tokens.reply:.0f}",
                        per_1000(one),
                        per_1000(both),
                        "",
                    )
                )
        time = decision_times({"network": network}, test.recording.prompts, test.models)["network"]
        usd = time.cpu_ms / 3.6e6 * given.core_hour_usd
        rows.append(
            (
                str(len(names)),
                "network policy",
                "0",
                per_1000(usd),
                per_1000(2 * usd),
                f"{time.cpu_ms:.2f}",
            )
        )
    head = (
        "pool",
        "decided by",
        "tokens in, first / second decision, + out",
        "$ per 1000 decisions",
        "$ per 1000 queries",
        "ms of a core",
    )
    print(table(head, rows, "rlrrrr"))


def _worded(prompt: str) -> dict[str, Any]:
    return {"prompt": "brief"} if prompt == "brief" else {}


if __name__ == "__main__":
    main()

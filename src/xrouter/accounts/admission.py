"""One admitted request, until its cost is booked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from ..ledger.ledger import Spent
from ..ledger.totals import EXACT
from ..state.state import Take
from .budget import Budget
from .caller import Caller


class Settler(Protocol):
    """Whoever admitted the request: `gate.Gate`."""

    async def settle(self, admission: Admission, spent: Sequence[Spent], tokens: int) -> None: ...


@dataclass(slots=True)
class Admission:
    """What the request may do, and what is set aside for it. End it exactly once: `settle` after its rows are booked,
    `release` where nothing was spent. Where booking itself failed do neither: nobody knows what is in the books, so
    what was set aside stays so until it lapses.

    allowed_models: those of the models asked about that the caller may use.
    tags: of the key and of the request, each once.
    scopes: for `Ledger.book`, which charges them.
    max_cost_usd: what is set aside; the request must not cost more. None where no budget applies.
    budgets: each scope's budget.
    """

    gate: Settler = field(repr=False)
    caller: Caller
    allowed_models: tuple[str, ...]
    tags: tuple[str, ...]
    max_cost_usd: Decimal | None = None
    budgets: dict[str, Budget] = field(default_factory=dict)
    reservation: str | None = None
    prompt_tokens: int = 0
    token_takes: tuple[Take, ...] = ()
    ended: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(self.budgets)

    async def settle(self, spent: Sequence[Spent], tokens: int) -> None:
        """Let go of what was set aside. `spent` is what `Ledger.book` returned; `tokens` those used, prompt and
        answer of all calls together. Never fails: state that cannot be reached is logged, and the rest lapses."""
        if not self.ended:
            self.ended = True
            await self.gate.settle(self, spent, tokens)

    async def release(self) -> None:
        """Nothing was spent: the tokens and the money are free again. It counts as a request all the same."""
        await self.settle((), 0)

    def left_usd(self, spent: Sequence[Spent]) -> Decimal | None:
        """What the tightest of the budgets still has, in USD, once `spent` is booked; None without a budget."""
        left = [
            EXACT.subtract(self.budgets[total.scope].amount_usd, total.cost_usd)
            for total in spent
            if total.scope in self.budgets
        ]
        return max(Decimal(0), min(left)) if left else None

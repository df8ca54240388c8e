"""A budget that calls under way share: the worst case of each is set aside before it is made."""

from __future__ import annotations

import asyncio
from decimal import Decimal


class Purse:
    """A budget of which part is spent and part is set aside for calls under way."""

    def __init__(self, limit: Decimal, spent: Decimal) -> None:
        self.limit = limit
        self.spent = spent
        self.empty = False
        self._set_aside = Decimal(0)
        self._settled = asyncio.Condition()

    async def set_aside(self, amount: Decimal) -> bool:
        """Waits for calls under way where these may leave enough. False: the budget is used up."""
        async with self._settled:
            while not self.empty and self.spent + self._set_aside + amount > self.limit:
                if self._set_aside:
                    await self._settled.wait()
                else:
                    self.empty = True
                    self._settled.notify_all()
            if self.empty:
                return False
            self._set_aside += amount
            return True

    async def settle(self, amount: Decimal, spent: Decimal) -> None:
        async with self._settled:
            self._set_aside -= amount
            self.spent += spent
            self._settled.notify_all()

"""An admitted request on its way into the books: whom it is booked to, and the one end of its admission."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from ..accounts.admission import Admission
from ..episodes.booking import Attribution
from ..errors import BooksClosedError, LedgerError
from ..ledger.ledger import CallEntry, EpisodeEntry, Spent
from ..messages import Usage
from ..observability.record import RequestRecord
from ..trace_context import current_trace
from .response_headers import budget_headers


class Admitted:
    """`headers`: what is left of the caller's budgets, once the rows are committed."""

    def __init__(self, admission: Admission, record: RequestRecord, session: str | None) -> None:
        self.headers: dict[str, str] = {}
        self._admission = admission
        self._record = record
        trace = current_trace()
        self.attribution = Attribution(
            key_id=admission.caller.key_id,
            user=admission.caller.user,
            team=admission.caller.team,
            tags=admission.tags,
            session=session,
            trace_id=None if trace is None else trace.trace_id,
            scopes=admission.scopes,
            settled=self._settled,
        )

    async def _settled(self, entry: EpisodeEntry, calls: Sequence[CallEntry], spent: Sequence[Spent]) -> None:
        usage = sum((call.usage for call in calls), Usage())
        self._record.usage, self._record.cost_usd = usage, entry.cost_usd
        self._record.route = entry.route
        self.headers.update(budget_headers(self._admission, spent))
        await self._admission.settle(spent, usage.total_tokens)


class ended_once:  # noqa: N801 - read as a state: `async with ended_once(admission):`
    """The block settles the admission by booking; where it fails before, what was set aside is free again."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After any other LedgerError nobody knows what is in the books: what was set aside stays so until it lapses.
        if error is not None and (isinstance(error, BooksClosedError) or not isinstance(error, LedgerError)):
            await self._admission.release()

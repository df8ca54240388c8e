"""Which steps bring books of an older version up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import LedgerError


def pending(
    where: str, version: int, newest: int, migrations: Mapping[int, Sequence[str]]
) -> list[tuple[int, Sequence[str]]]:
    """(version that results, statements) of each step from `version` to `newest`; `migrations` go by where they start.

    Raises LedgerError for books of a newer version, or of one that there is no way from.
    """
    steps = []
    at = version
    while at != newest and at in migrations:
        steps.append((at + 1, migrations[at]))
        at += 1
    if at != newest:
        raise LedgerError(
            f"{where} is a ledger of schema version {version}, this program writes version "
            f"{newest}: name another ledger or use the program that wrote it"
        )
    return steps

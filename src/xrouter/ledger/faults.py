"""What SQLite reports, said so that it can be mended."""

from __future__ import annotations

from pathlib import Path

from ..errors import LedgerError

_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")
_UNSOUND = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def is_busy(error: Exception) -> bool:
    """Whether another process holds the file just now."""
    return _name(error).startswith(_BUSY)


def ledger_error(path: Path, error: Exception) -> LedgerError:
    """The LedgerError for an error of SQLite or of the operating system."""
    name = _name(error)
    if is_busy(error):
        why = "is locked by another process: try again, or close what holds it"
    elif name.startswith("SQLITE_FULL"):
        why = "cannot grow, the disk is full: free some space"
    elif name.startswith(_UNSOUND):
        why = f"is no sound SQLite file ({error}): name another file or restore a copy"
    elif isinstance(error, OSError) or name.startswith(_UNWRITABLE):
        why = f"cannot be opened for writing ({error}): check the path and its permissions"
    else:
        why = f"failed: {error}"
    return LedgerError(f"ledger {path} {why}")


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", None) or ""

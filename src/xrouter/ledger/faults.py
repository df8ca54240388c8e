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
    return LedgerError(f"ledger {path} {fault(error, 'name another file or restore a copy')}")


def fault(error: Exception, mend_unsound: str) -> str:
    """What is wrong with a file and how to mend it, as the end of a sentence that began with its path."""
    name = _name(error)
    if is_busy(error):
        return "is locked by another process: try again, or close what holds it"
    if name.startswith("SQLITE_FULL"):
        return "cannot grow, the disk is full: free some space"
    if name.startswith(_UNSOUND):
        return f"is no sound SQLite file ({error}): {mend_unsound}"
    if isinstance(error, OSError) or name.startswith(_UNWRITABLE):
        return f"cannot be opened for writing ({error}): check the path and its permissions"
    return f"failed: {error}"


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", None) or ""

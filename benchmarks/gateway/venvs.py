"""Competitors, each in an environment of its own under one cache folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class InstallError(Exception):
    """A competitor cannot be had here."""


def environment(folder: Path, requirement: str) -> Path:
    """The `bin` folder of an environment that has `requirement`, made if it is not there yet. Raises InstallError."""
    bin_folder = folder / "bin"
    stamp = folder / ".requirement"
    if stamp.is_file() and stamp.read_text() == requirement:
        return bin_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)], requirement)
    pip = [str(bin_folder / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    _run([*pip, requirement], requirement)
    stamp.write_text(requirement)
    return bin_folder


def _run(argv: list[str], requirement: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=1800, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{requirement} could not be installed: {error}") from error
    if done.returncode:
        raise InstallError(f"{requirement} could not be installed:\n{done.stderr[-1500:]}")

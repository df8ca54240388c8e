"""The settings that are given as examples of a deployment are good."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_kit import ROOT

from xrouter.settings import load_settings

FILES = sorted((ROOT / "deploy").rglob("*.toml"))


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_settings_load(file: Path) -> None:
    load_settings(file, env={})

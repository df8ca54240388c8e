"""`xrouter router-train` before anything is trained: what is missing is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xrouter.cli import app
from xrouter.cli.router_train import BACKENDS
from xrouter.errors import ConfigurationError


def refused(*words: str) -> ConfigurationError:
    result = CliRunner().invoke(app, ["router-train", *words])
    assert isinstance(result.exception, ConfigurationError), result.output
    return result.exception


def test_an_unknown_backend_is_named_with_those_there_are() -> None:
    error = refused("router.toml", "--out", "run", "--backend", "accelerate")
    assert "accelerate" in error.message
    assert all(name in error.message for name in BACKENDS)


def test_a_missing_extra_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for module in [name for name in sys.modules if name.startswith("xrouter.training.trl")]:
        monkeypatch.delitem(sys.modules, module)
    pytest.importorskip("torch")
    assert "pip install 'xrouter[trl]'" in refused("router.toml", "--out", "run").message


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs pip install '.[trl]'")
    assert "nowhere.toml" in refused(str(tmp_path / "nowhere.toml"), "--out", str(tmp_path / "run")).message

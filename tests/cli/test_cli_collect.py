from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from conftest import make_model
from typer.testing import CliRunner

from xrouter.catalog.model import Model
from xrouter.cli.collect import collect
from xrouter.errors import ConfigurationError, DataError, ModelNotFoundError, ProviderUnavailableError
from xrouter.messages import Completion, Request, Usage
from xrouter.providers.pool import Pool
from xrouter.settings import Settings

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

Run = Callable[..., Any]


class Answers:
    """Always 42; `down` makes every call fail."""

    down = False
    asked = 0

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked += 1
        if self.down:
            raise ProviderUnavailableError("503", model=model.name)
        return Completion({"role": "assistant", "content": "42"}, Usage(20, 1))

    async def aclose(self) -> None: ...


@pytest.fixture
def provider() -> Answers:
    return Answers()


@pytest.fixture
def run(provider: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    build = ModuleType("xrouter.providers.build")
    models = tuple(make_model(name, simulated=True) for name in ("a", "b"))

    def build_pool(settings: Settings, catalog: object, env: object) -> Pool:
        pool = Pool(models, {"mock": provider}, "simulated pool")
        return pool.restricted_to(settings.pool) if settings.pool else pool

    build.build_pool = build_pool  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xrouter.providers.build", build)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"{i} + {42 - i}?", "reference": 42, "grader": "numeric"}) + "\n"
            for i in range(6)
        )
    )
    app = typer.Typer()
    app.command()(collect)
    return lambda *args: CliRunner().invoke(app, [*args, "--out", "o"], catch_exceptions=True)


def test_writes_files_and_says_what_they_hold(run: Run, provider: Answers) -> None:
    result = run("--tasks", "p.jsonl", "--models", "b,a")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("simulated pool")
    assert "score 1.000" in result.stdout
    assert "12 answers to" in result.stdout
    assert provider.asked == 12
    assert {file.name for file in Path("o").iterdir()} == {
        "journal.jsonl",
        "queries.parquet",
        "outcomes.parquet",
        "models.parquet",
    }


def test_resumes_for_free_and_refuses_to_start_over(run: Run, provider: Answers) -> None:
    run("--tasks", "p.jsonl", "--n", "4")
    assert isinstance(run("--tasks", "p.jsonl").exception, ConfigurationError)
    assert run("--tasks", "p.jsonl", "--resume").exit_code == 0
    assert provider.asked == 12


def test_a_budget_that_runs_out_is_said(run: Run) -> None:
    result = run("--tasks", "p.jsonl", "--max-cost-usd", "0.0003", "--max-output-tokens", "100")
    assert result.exit_code == 0
    assert "--max-cost-usd 0.0003" in result.stderr


def test_made_up_tasks_are_the_default(run: Run, provider: Answers) -> None:
    assert run("--n", "3").exit_code == 0
    assert provider.asked == 6


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        (("--tasks", "none.jsonl"), ConfigurationError, "none.jsonl"),
        (("--tasks", "algebra"), ConfigurationError, "algebra"),
        (("--models", "a,zzz"), ModelNotFoundError, "zzz"),
        (("--max-cost-usd", "lots"), ConfigurationError, "lots"),
        (("--max-cost-usd", "nan"), ConfigurationError, "nan"),
        (("--max-cost-usd", "-1"), ConfigurationError, "max_cost_usd"),
        (("--timeout", "0"), ConfigurationError, "timeout_s"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_asked(
    run: Run, provider: Answers, args: tuple[str, ...], error: type[Exception], said: str
) -> None:
    result = run(*args)
    assert isinstance(result.exception, error)
    assert said in str(result.exception)
    assert provider.asked == 0
    assert not Path("o").exists()


def test_a_pool_that_is_down_is_an_error_with_its_reason(run: Run, provider: Answers) -> None:
    provider.down = True
    result = run("--tasks", "p.jsonl")
    assert isinstance(result.exception, DataError)
    assert "503" in result.stderr

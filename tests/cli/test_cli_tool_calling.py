"""Commands whose policy is a language model, named on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from router_llm_kit import call, says, select
from upstream import MockUpstream, server_error


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "xrouter.toml").write_text(
        'pool = ["sim-small", "sim-medium", "sim-large"]\nmax_retries = 0\n'
    )
    return tmp_path


def ask(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and not k.startswith("XROUTER_")
    }
    return subprocess.run(
        [sys.executable, "-m", "xrouter", "ask", "What is 17 * 23?", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
        env={**kept, "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), **env},
    )


def test_ask_with_a_model_that_decides(mock_upstream: MockUpstream, home: Path) -> None:
    mock_upstream.script(says(call("call_sim-medium")), says(select("c1")))
    shown = ask(
        home,
        *("--router-url", mock_upstream.base_url, "--router-model", "qwen", "--router-key-env", "LAB_KEY"),
        *("--router-price", "0.3/2", "--json"),
        LAB_KEY="sk-lab",
    )
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout)
    assert (answer["route"], answer["policy"], answer["policy_version"]) == (
        [["sim-medium"]],
        "tool-calling",
        "qwen",
    )
    assert [decision["cost_usd"] for decision in answer["decisions"]] == ["0.00034", "0.00034"]
    assert mock_upstream.requests[0].headers["Authorization"] == "Bearer sk-lab"
    assert mock_upstream.requests[0].body["model"] == "qwen"


def test_a_degraded_answer_says_so(mock_upstream: MockUpstream, home: Path) -> None:
    mock_upstream.default = server_error()
    shown = ask(
        home, "--router-url", mock_upstream.base_url, "--router-model", "qwen", "--router-price", "0/0"
    )
    assert shown.returncode == 0, shown.stderr
    assert "degraded    qwen could not decide" in shown.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--policy", "tool-calling"), "--router-model"),
        (("--router-model", "qwen"), "price"),
        (("--router-model", "qwen", "--router-price", "0/0"), "--router-url"),
        (("--router-model", "qwen", "--policy", "cheapest"), "--policy tool-calling"),
        (("--router-model", "gpt-5-mini"), "OPENAI_API_KEY"),
        (("--router-model", "qwen", "--router-key-env", "sk-123"), "not the key itself"),
    ],
)
def test_options_that_do_not_do(home: Path, options: tuple[str, ...], told: str) -> None:
    shown = ask(home, *options)
    assert shown.returncode == 2
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr
    assert "sk-123" not in shown.stderr

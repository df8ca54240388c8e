"""The command line as users run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "pyarrow",
    "sklearn",
    "scipy",
    "matplotlib",
    "litellm",
    "openai",
    "xllamacpp",
    "transformers",
)


def run(*args: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xrouter", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
        env=environment(home, **env),
    )


def environment(home: Path, **env: str) -> dict[str, str]:
    """An empty home and no keys."""
    kept = {
        k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and not k.startswith("XROUTER_")
    }
    return {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "NO_COLOR": "1", **env}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder whose settings name the simulated pool, so that no weights are loaded."""
    (tmp_path / "xrouter.toml").write_text('pool = ["sim-small", "sim-medium", "sim-large"]\n')
    return tmp_path


def test_version_and_help(home: Path) -> None:
    assert run("--version", home=home).stdout.startswith("xrouter ")
    shown = run("--help", home=home)
    assert shown.returncode == 0
    for name in ("serve", "ask", "report", "demo", "models", "train", "evaluate", "distill", "collect"):
        assert name in shown.stdout


@pytest.mark.parametrize(
    "command", ["serve", "ask", "report", "demo", "models", "train", "evaluate", "distill", "collect"]
)
def test_every_command_has_help_with_an_example(home: Path, command: str) -> None:
    shown = run(command, "--help", home=home)
    assert shown.returncode == 0, shown.stderr
    assert f"xrouter {command}" in shown.stdout


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from xrouter.cli import app; "
        f"heavy = set({HEAVY!r}) & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_key_in_the_settings_is_one_line(home: Path) -> None:
    (home / "xrouter.toml").write_text("prot = 8080\n")
    shown = run("ask", "hi", home=home)
    assert shown.returncode == 2
    assert "prot" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_bad_request_is_exit_code_2(home: Path) -> None:
    shown = run("ask", "hi", "--preset", "cheap", home=home)
    assert shown.returncode == 2
    assert "preset" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_port_that_is_taken(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        shown = run("serve", "--port", str(taken.getsockname()[1]), home=home)
    assert shown.returncode == 2
    assert "cannot listen on" in shown.stderr


def test_ask_then_report(home: Path) -> None:
    asked = run("ask", "What is 17 * 23?", "--json", home=home)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["text"]
    plain = run("ask", "Capital of France?", home=home)
    assert "cost" in plain.stdout
    assert "route" in plain.stdout

    report = json.loads(run("report", "--json", home=home).stdout)
    assert report["requests"] == 2
    table = run("report", home=home)
    assert table.returncode == 0, table.stderr
    assert answer["calls"][0]["model"] in table.stdout


def test_ask_says_whether_the_target_quality_was_reached(home: Path) -> None:
    reached = run("ask", "What is 17 * 23?", "--target-quality", "0.01", "--json", home=home)
    assert reached.returncode == 0, reached.stderr
    assert json.loads(reached.stdout)["degraded"] is None
    missed = run("ask", "What is 17 * 23?", "--target-quality", "0.9999", home=home)
    assert missed.returncode == 0, missed.stderr
    assert "degraded    target_quality 0.9999 not reached: 0." in missed.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--target-quality", "1"),
        ("--target-quality", "0"),
        ("--target-quality", "high"),
        ("--target-quality", "0.9", "--cost-weight", "1"),
        ("--target-quality", "0.9", "--preset", "economy"),
        ("--target-quality", "0.9", "--policy", "cheapest"),
    ],
)
def test_a_target_quality_that_cannot_be_is_exit_code_2(home: Path, options: tuple[str, ...]) -> None:
    shown = run("ask", "hi", *options, home=home)
    assert shown.returncode == 2
    assert "target" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_report_on_an_empty_ledger(home: Path) -> None:
    shown = run("report", home=home)
    assert shown.returncode == 0, shown.stderr
    assert "no requests" in shown.stdout.lower()


def test_a_report_since_a_bad_date(home: Path) -> None:
    shown = run("report", "--since", "yesteryear", home=home)
    assert shown.returncode == 2
    assert "yesteryear" in shown.stderr


def test_serve_answers_and_ends_on_ctrl_c(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "xrouter", "serve", "--port", "0", "--ledger", str(home / "books.sqlite")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env=environment(home, PYTHONUNBUFFERED="1"),
    )
    try:
        assert process.stdout is not None
        lines = []
        while not any(" at http://" in line for line in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr and process.stderr.read()
        (url,) = [word for line in lines for word in line.split() if word.startswith("http://")]
        body = json.dumps({"model": "xrouter", "messages": [{"role": "user", "content": "2 + 2?"}]})
        request = urllib.request.Request(
            f"{url}/chat/completions", body.encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.wait()
    assert (home / "books.sqlite").exists()


def test_demo_once(home: Path) -> None:
    pytest.importorskip("openai")
    shown = run("demo", "--once", home=home)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("SIMULATED"), "the first line says what the pool is"
    for number in range(1, 7):
        assert f"\n{number}. " in shown.stdout
    assert "stopped:" in shown.stdout
    assert "alone $" in shown.stdout
    assert "Traceback" not in shown.stderr

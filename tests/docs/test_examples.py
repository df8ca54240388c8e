"""Every example runs from nothing: no key, no settings, an empty home."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from docs_kit import ROOT, isolated

SAYS = {
    "library_quickstart.py": (
        "SIMULATED",
        "as cheap as possible: The answer is",
        "a cap too low for any call: no answer",
    ),
    "openai_client.py": ("SIMULATED", "xrouter:quality", "streamed:", "refused:"),
    "own_policy.py": ("SIMULATED", "sim-small + sim-maths > sim-large"),
    "own_provider.py": ("The answer is 391", "calculator: answered", "sees no sum"),
    "replay_outcomes.py": ("validation reward", "learned", "oracle"),
}
"""What each prints, among other things."""
NEEDS = {"openai_client.py": "openai", "replay_outcomes.py": "torch"}


def test_every_example_is_run_here() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example_runs(name: str, tmp_path: Path) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        cwd=tmp_path,
        env=isolated(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in SAYS[name]:
        assert words in done.stdout
    assert not list(tmp_path.rglob("*.sqlite")), "an example wrote to the user's own ledger"

"""Launchers of training: they parse, call the command line as it is, and name no machine."""

from __future__ import annotations

import re
import shlex
import shutil
import string
import subprocess
from pathlib import Path

import pytest
import typer
from docs_kit import ROOT

from xrouter.cli import app

FOLDER = ROOT / "deploy" / "verl"
SCRIPTS = sorted(path for path in FOLDER.iterdir() if path.suffix in (".sh", ".sbatch"))
VALUES = {
    "IMAGE": "registry.example/xrouter-verl:1",
    "WORKERS": "1",
    "GPUS": "8",
    "CLAIM": "training",
    "CONFIG": "router.toml",
    "OUT": "runs/router",
}


def known_options() -> set[str]:
    command = typer.main.get_command(app).commands["router-train"]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_missing_variable_is_named(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", script],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "set CONFIG to the TOML file" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_one_node_goes_on_with_a_run_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "xrouter"
    fake.write_text('#!/bin/sh\necho "$@" "$RAY_ADDRESS"\n')
    fake.chmod(0o755)
    env = {
        "PATH": f"{fake.parent}:/usr/bin:/bin",
        "CONFIG": "a b.toml",
        "OUT": str(tmp_path / "run"),
        "RAY_ADDRESS": "old:1",
    }

    def said(**more: str) -> str:
        command = ["bash", str(FOLDER / "single_node.sh")]
        return subprocess.run(
            command, env=env | more, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert said(DRY_RUN="1") == f"router-train a b.toml --backend verl --out {tmp_path}/run --dry-run"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert said() == f"router-train a b.toml --backend verl --out {tmp_path}/run --resume"


def test_kuberays_job_is_yaml_once_its_variables_are_set() -> None:
    yaml = pytest.importorskip("yaml")
    text = (FOLDER / "kuberay.yaml").read_text()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    used = set(re.findall(r"\$\{?([A-Z]+)\}?", body))
    assert used == set(VALUES), "every variable is used, and told of above"
    assert all(re.search(rf"^#.*\b{name}\b", text, re.MULTILINE) for name in used)
    job = yaml.safe_load(string.Template(body).safe_substitute(VALUES))
    assert job["kind"] == "RayJob"
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == 1
    pods = [cluster["headGroupSpec"]["template"]["spec"], workers["template"]["spec"]]
    for pod in pods:
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    shell, flag, script = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("sh", "-c")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    assert "xrouter router-train" in script


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_options_exist(path: Path) -> None:
    parts = re.findall(r"(?:router-train|options\+?=\().*", path.read_text())
    assert parts
    assert set(re.findall(r"(?<=[\s(])--[a-z-]+", "\n".join(parts))) <= known_options()
    assert "/home/" not in path.read_text()

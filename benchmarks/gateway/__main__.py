"""The command. See the package's docstring, and --help."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from . import __doc__ as package_doc
from .contestants import (
    LITELLM,
    TENSORZERO,
    Contestant,
    OurOptions,
    has_workers_option,
    litellm,
    ours,
    ours_in_memory,
    tensorzero,
)
from .load import Generator
from .measures import QUICK, Bench, Plan, measure_rounds, measure_workers, start_all
from .processes import fsync_ms
from .table import kept, page
from .venvs import InstallError

WORKERS = 2
MEMORY = Path("/dev/shm")  # noqa: S108 - no secret is written there


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    plan = QUICK if args.quick else Plan(rounds=args.rounds)
    if args.quick and args.rounds != Plan.rounds:
        plan = replace(plan, rounds=args.rounds)
    notes: list[str] = []
    machine = _machine()
    with ExitStack() as stack:
        folder = _folder(stack, None)
        memory = _folder(stack, MEMORY) if MEMORY.is_dir() else None
        contestants = _contestants(args, memory, notes)
        disk_ms = fsync_ms(folder)
        upstream = stack.enter_context(mock_upstream(plan))
        load = Generator()
        stack.callback(load.close)
        bench = Bench(plan, upstream, load, folder)
        with ExitStack() as servers:
            start_all(bench, contestants, servers)
            measure_rounds(bench, contestants)
        if not has_workers_option():
            _loudly(f"this xrouter has no option --workers: {WORKERS} workers are not measured", notes)
        else:
            measure_workers(bench, contestants[0], WORKERS)
            cores = len(os.sched_getaffinity(0))
            if cores < 2 * WORKERS:
                notes.append(
                    f"{WORKERS} workers, the load generator and the upstream share {cores} cores: what the second"
                    " worker can add is limited by that."
                )
    routes = {route.key: route.title for contestant in contestants for route in contestant.routes}
    servers_titles = {contestant.key: contestant.title for contestant in contestants}
    machine = {**machine, "fsync of the ledger's folder": f"{disk_ms:.2f} ms"}
    text = page(bench.results, routes, servers_titles, machine=machine, notes=notes, command=_command(argv))
    if args.out is None:
        print(text)
    else:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        earlier = args.out.read_text(encoding="utf-8") if args.out.exists() else ""
        args.out.write_text(text + kept(earlier), encoding="utf-8")
    if args.raw is not None:
        args.raw.parent.mkdir(parents=True, exist_ok=True)
        raw = {"machine": machine, "plan": asdict(plan), "notes": notes, "results": bench.results}
        args.raw.write_text(json.dumps(raw, indent=1), encoding="utf-8")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway",
        description=package_doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xrouter" / "gateway-benchmark"
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--venvs", type=Path, default=cache, help="where competitors are installed")
    parser.add_argument(
        "--without", nargs="*", default=[], choices=("memory", "litellm", "tensorzero"), help="leave out"
    )
    parser.add_argument("--out", type=Path, help="Markdown file; default: standard output")
    parser.add_argument("--raw", type=Path, help="JSON file of every figure of every round")
    parser.add_argument("--xrouter-settings", type=Path, help="TOML that joins the generated xrouter.toml")
    parser.add_argument(
        "--xrouter-setup",
        action="append",
        metavar="ARGUMENTS",
        help="an xrouter command to run before each start, in place of the one that makes a key; {config} is the settings"
        " file",
    )
    parser.add_argument(
        "--xrouter-key-pattern",
        help="what the key looks like that those commands print and requests shall carry",
    )
    parser.add_argument(
        "--xrouter-env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for xrouter and those commands",
    )
    return parser.parse_args(argv)


def _contestants(args: argparse.Namespace, memory: Path | None, notes: list[str]) -> list[Contestant]:
    options = OurOptions(
        settings=args.xrouter_settings.read_text() if args.xrouter_settings else "",
        env=dict(pair.split("=", 1) for pair in args.xrouter_env),
    )
    if find_spec("prometheus_client") is None:
        _loudly("prometheus_client is not installed: xrouter counts no metrics in this run", notes)
    if args.xrouter_setup:
        setup = tuple(tuple(shlex.split(line)) for line in args.xrouter_setup)
        options = replace(options, setup=setup, key_pattern=args.xrouter_key_pattern)
    found = [ours(options)]
    if "memory" not in args.without and memory is not None:
        found.append(ours_in_memory(options, memory))
    for name, make in (("litellm", litellm), ("tensorzero", tensorzero)):
        if name in args.without:
            notes.append(f"{name} was left out.")
            continue
        try:
            found.append(make(args.venvs.expanduser().resolve()))
        except InstallError as error:
            _loudly(f"{name} is missing from this run: {error}", notes)
    return found


def _folder(stack: ExitStack, parent: Path | None) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-benchmark-", dir=parent)))


def _loudly(text: str, notes: list[str]) -> None:
    line = "=" * 100
    print(f"{line}\n{text}\n{line}", file=sys.stderr, flush=True)
    notes.append(text.splitlines()[0])


@contextmanager
def mock_upstream(plan: Plan) -> Iterator[str]:
    """The mock's base URL."""
    argv = [sys.executable, "-m", "benchmarks.gateway.upstream"]
    argv += ["--chunks", str(plan.chunks), "--interval-ms", str(plan.interval_ms)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def _machine() -> dict[str, str]:
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "load average before the run": f"{os.getloadavg()[0]:.1f}",
        "cores": f"{len(os.sched_getaffinity(0))} ({cpu[0] if cpu else platform.machine()})",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "xrouter": version("xrouter"),
        "against": f"{LITELLM}, {TENSORZERO}",
    }


def _command(argv: Sequence[str] | None) -> str:
    return shlex.join(["python", "-m", "benchmarks.gateway", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    main()

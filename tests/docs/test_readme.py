"""The README and the documents are true: their commands parse, settings load, code runs, links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
import typer
from docs_kit import DOCUMENTS, ROOT, Block, blocks, inline_code, isolated, links, shell_lines
from serving_kit import serving
from trl_toml import check_trl_toml

from xrouter.catalog.catalog import Catalog
from xrouter.cli import app
from xrouter.gateway.controls import OPTIONS
from xrouter.gateway.wire import parse_chat
from xrouter.router import Router
from xrouter.settings import DEFAULT_PRESETS, Settings, load_settings
from xrouter.toml_reader import Reader
from xrouter.training.dataset.recipe import Recipe, Reference
from xrouter.training.dataset.recipe_file import read_recipe
from xrouter.training.router.reward import RewardSettings
from xrouter.training.router.settings import WorldSettings, read_training

README = ROOT / "README.md"
TOP = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = TOP | {
    f"{name} {below}": command
    for name, group in TOP.items()
    for below, command in getattr(group, "commands", {}).items()
}
"""By their words: "models", and "models probe" below it."""
SIMULATED = 'pool = ["sim-small", "sim-maths", "sim-medium", "sim-large"]\n'
SERVED_AT = "http://127.0.0.1:8080"


def lines_of(program: str) -> list[object]:
    return [
        pytest.param(shlex.split(line, comments=True), id=place)
        for place, line in shell_lines()
        if line.split()[0] == program
    ]


def split(words: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and what follows it."""
    length = 2 if " ".join(words[1:3]) in COMMANDS else 1
    return " ".join(words[1 : 1 + length]), words[1 + length :]


def assert_parses(words: list[str]) -> None:
    name, options = split(words)
    assert name in COMMANDS
    if "--help" in options:
        return
    context = COMMANDS[name].make_context(name, options)
    models = context.params.get({"collect": "models", "models probe": "new"}.get(name, ""))
    if models:
        assert all(model in Catalog.load(Settings()) for model in models.split(","))


@pytest.mark.parametrize("words", lines_of("xrouter"))
def test_every_command_line_parses(words: list[str]) -> None:
    assert_parses(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_named_in_the_text_exist_with_their_options(document: Path) -> None:
    for code in inline_code(document):
        words = code.split()
        if words[0] != "xrouter" or len(words) == 1:
            continue
        name, options = split(words)
        assert name in COMMANDS, code
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word for word in options if word.startswith("--")} <= known, code


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_of_help_parse(name: str) -> None:
    lines = [line.strip() for line in COMMANDS[name].help.splitlines()]
    examples = [shlex.split(line) for line in lines if line.startswith("xrouter ")]
    assert examples
    for words in examples:
        assert " ".join(words[1:]).startswith(name)
        assert_parses(words)


def test_every_command_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `xrouter ([\w -]+)` \|", README.read_text(), re.MULTILINE))
    assert named == set(COMMANDS)


@pytest.mark.parametrize("words", lines_of("make"))
def test_make_targets_exist(words: list[str]) -> None:
    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_make_targets_named_in_the_text_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in DOCUMENTS:
        for code in inline_code(document):
            if code.startswith("make "):
                assert re.search(rf"^{code.split()[1]}:", makefile, re.MULTILINE), code


def test_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"pip install '\.\[(\w+)\]'", README.read_text())
    assert named
    assert set(named) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("words", lines_of("curl"))
def test_curl_sends_a_request_that_is_accepted(words: list[str]) -> None:
    assert words[1] == f"{SERVED_AT}/v1/chat/completions"
    parse_chat(words[words.index("-d") + 1].encode())


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_loads(block: Block, tmp_path: Path) -> None:
    if block.text.startswith("# train.toml"):
        config = pytest.importorskip("xrouter.training.config").TrainingConfig
        config.from_dict(tomllib.loads(block.text))
        return
    if block.text.startswith("# verl.toml"):
        from xrouter.training.verl.settings import read_verl

        settings = read_verl(Reader("verl.toml", tomllib.loads(block.text)), "verl")
        assert replace(settings, loggers=("console", "file"), overrides=()) == type(settings)()
        return
    if block.text.startswith("# recipe.toml"):
        values = tomllib.loads(block.text)
        values["sources"][0].pop("graders")  # a module of the reader's
        recipe = read_recipe(Reader("recipe.toml", values))
        plain = replace(
            recipe, sources=(), reference=Reference(), pools=replace(recipe.pools, sets={}, set_share=0.0)
        )
        assert plain == Recipe()
        assert all(
            model in Catalog.load(Settings()) for names in recipe.pools.sets.values() for model in names
        )
        return
    if block.text.startswith("# router.toml"):
        (tmp_path / "card.json").write_text('{"recipe": {"router": {}}}')
        values = {**tomllib.loads(block.text), "data": str(tmp_path)}
        read_training(Reader("router.toml", values), "trl", lambda reader, key: None)
        for table, kind in (("world", WorldSettings), ("reward", RewardSettings)):
            assert set(values[table]) == {field.name for field in fields(kind)}
        return
    if block.text.startswith("# train-router.toml"):
        check_trl_toml(block.text, tmp_path)
        return
    file = tmp_path / "xrouter.toml"
    file.write_text(block.text, encoding="utf-8")
    list(Catalog.load(load_settings(file, env={})))


def test_the_settings_shown_are_all_there_are() -> None:
    shown = tomllib.loads(next(block.text for block in blocks("toml", README)))
    assert set(shown) == {field.name for field in fields(Settings)} - {"file"}


def test_request_controls_and_presets_are_all_named() -> None:
    text = README.read_text()
    controls = text.split("| key | meaning |\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", controls, re.MULTILINE)) == set(OPTIONS)
    assert all(f"`xrouter:{preset}`" in text for preset in DEFAULT_PRESETS)
    assert "presets are lambda {}, {} and {:g}".format(*DEFAULT_PRESETS.values()) in text


def test_keys_named_are_keys_of_the_catalog() -> None:
    named = set(re.findall(r"`(\w+_API_KEY)`", README.read_text()))
    assert named == {e.key_env for e in Catalog.load(Settings()).endpoints.values() if e.key_env}


@pytest.mark.parametrize("block", blocks("python"), ids=str)
async def test_python_runs(block: Block, tmp_path: Path) -> None:
    """In a process of its own, against a gateway with simulated models where it calls one."""
    ast.parse(block.text)
    settings = tmp_path / "xrouter.toml"
    settings.write_text(SIMULATED + f'ledger = "{tmp_path / "ledger.sqlite"}"\n')
    async with serving(Router(settings=load_settings(settings))) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            block.text.replace(SERVED_AT, url),
            cwd=tmp_path,
            env=isolated(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, error.decode()
    assert b"The answer is" in out


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        assert (document.parent / link).exists(), link

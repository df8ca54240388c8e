from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner

from xrouter.catalog.catalog import Catalog
from xrouter.cli.models import check_endpoints, models
from xrouter.settings import Endpoint, Settings

runner = CliRunner()
app = typer.Typer()
app.command()(models)


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for endpoint in Catalog.load().endpoints.values():
        if endpoint.key_env:
            monkeypatch.delenv(endpoint.key_env, raising=False)
    monkeypatch.delenv("XROUTER_CONFIG", raising=False)


def test_table_lists_every_model():
    result = runner.invoke(app, [])
    assert result.exit_code == 0
    for model in Catalog.load():
        assert model.name in result.stdout
    assert "OPENAI_API_KEY is not set" in result.stdout


def test_json_carries_exact_prices():
    result = runner.invoke(app, ["--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)["models"]}
    assert rows["o1-mini-2024-09-12"]["price"]["input"] == "3"
    assert rows["o1-mini-2024-09-12"]["price"]["dated"] == "2024-09-12"
    assert rows["gpt-5-mini"]["available"] is False
    assert rows["sim-large"]["simulated"] is True


def test_pool_says_its_notice_first(tmp_path):
    (tmp_path / "xrouter.toml").write_text('pool = ["sim-small"]')
    result = runner.invoke(app, ["--pool"])
    assert result.stdout.startswith("SIMULATED MODELS")


def test_help_has_examples():
    assert "xrouter models --check" in runner.invoke(app, ["--help"]).stdout


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == "Bearer good"
        return web.json_response({"data": []}, status=200 if good else 401)

    application = web.Application()
    application.router.add_get("/v1/models", answer)
    running = web.AppRunner(application)
    await running.setup()
    site = web.TCPSite(running, "127.0.0.1", 0)
    await site.start()
    host, port = running.addresses[0][:2]
    yield f"http://{host}:{port}/v1"
    await running.cleanup()


async def test_check_tells_answering_refused_and_dead(server):
    table = {"tier": "budget", "context_window": 1000, "price": {"input": "0", "output": "0"}}
    endpoints = {
        "good": Endpoint(server, "GOOD_KEY"),
        "bad": Endpoint(server, "BAD_KEY"),
        "dead": Endpoint("http://127.0.0.1:9/v1"),
        "keyless": Endpoint(server, "ABSENT_KEY"),
    }
    settings = Settings(endpoints=endpoints, models={f"m-{e}": {**table, "provider": e} for e in endpoints})
    catalog = Catalog.load(settings)
    env = {"GOOD_KEY": "good", "BAD_KEY": "sk-bad"}
    reach = await check_endpoints([catalog[f"m-{e}"] for e in endpoints], catalog, env)
    assert reach["good"].ok
    assert not reach["bad"].ok
    assert "BAD_KEY was refused" in reach["bad"].detail
    assert not reach["dead"].ok
    assert "keyless" not in reach
    assert "sk-bad" not in str(reach)

"""The table of what a decision costs counts what is sent, and prices it as the catalog does."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from outcomes_kit import synthetic_outcomes, synthetic_tables, write_tables

from benchmarks.router_cost import Tokens, main, measure
from xrouter.catalog.price import Price, Rates
from xrouter.settings_tables.router_llm import RouterLLMSettings


def test_every_pool_is_priced_beside_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tables(synthetic_tables(20, 10), tmp_path / "kit")
    main([str(folder), "--pools", "2,4", "--queries", "3", "--own-price", "0.2/0.4"])
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    ]
    rows = lines[2:]
    assert [row[0] for row in rows] == ["2"] * 7 + ["4"] * 7
    assert {row[1] for row in rows if row[2] == "0"} == {"network policy"}
    priced = {row[1]: float(row[4]) for row in rows if row[0] == "4"}
    assert priced["own model at 0.2/0.4, brief prompt"] < priced["own model at 0.2/0.4, full prompt"]
    assert priced["network policy"] < priced["gpt-5-nano, brief prompt"] / 100


def test_a_longer_pool_and_a_later_turn_are_longer_prompts(tmp_path: Path) -> None:
    test = synthetic_outcomes(tmp_path / "kit", synthetic_tables(20, 10)).split("test")
    small = measure(test.pool(["weak", "large"]), RouterLLMSettings(), None)
    whole = measure(test, RouterLLMSettings(), None)
    assert small.first < small.second
    assert small.first < whole.first
    words = measure(test, RouterLLMSettings(), lambda text: len(text.split()))
    assert words.first != whole.first
    assert measure(test, replace(RouterLLMSettings(), prompt="brief"), None).first < whole.first


def test_dollars_of_a_query_are_those_of_both_decisions() -> None:
    from datetime import date

    price = Price(Rates(Decimal(1), Decimal(10)), date(2026, 1, 1), "tests")
    one, both = Tokens(1000.0, 2000.0, 20.0).usd(price)
    assert one == pytest.approx(0.0012)
    assert both == pytest.approx(0.0012 + 0.0022)

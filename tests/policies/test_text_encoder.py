from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes

from xrouter.policies.checkpoint import Provenance, save_network
from xrouter.policies.text import (
    MAX_CHARACTERS,
    TextEncoder,
    hashed_counts,
    head_and_tail,
    numbers_in,
    words_and_marks,
)
from xrouter.training.encoder import fit_encoder

PROMPTS = synthetic_outcomes().recording.prompts
QUERIES = [PROMPTS[0], "treaty of the naïve emperor 漢字 🙂", "", "zzz qqq", "enzyme " * 5000]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return fit_encoder(PROMPTS, dimensions=8, landmarks=8, vocabulary=300)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_another_process_encodes_to_the_same_bits(tmp_path: Path, hash_seed: str) -> None:
    policy = fitted_policy()
    save_network(policy, tmp_path / "policy.npz", Provenance())
    code = (
        "import json, sys; from xrouter.policies.checkpoint import load_network; "
        "e = load_network(sys.argv[1]).encoder; "
        "print(json.dumps([e.embed([q]).tobytes().hex() for q in json.load(sys.stdin)]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        input=json.dumps(QUERIES),
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    from xrouter.policies.checkpoint import load_network

    here = load_network(tmp_path).encoder
    assert json.loads(done.stdout) == [here.embed([query]).tobytes().hex() for query in QUERIES]


def test_fitting_in_another_process_keeps_the_same_words(encoder: TextEncoder) -> None:
    code = (
        "import json, sys; from xrouter.training.encoder import fit_encoder; "
        "e = fit_encoder(json.load(sys.stdin), dimensions=8, landmarks=8, vocabulary=300); "
        "print(json.dumps([e.buckets_V.tolist(), e.idf_V.tolist(), abs(e.projection_VD).sum(0).tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(PROMPTS),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    buckets, idf, projection = json.loads(done.stdout)
    assert buckets == encoder.buckets_V.tolist()
    assert idf == encoder.idf_V.tolist()
    np.testing.assert_allclose(projection, abs(encoder.projection_VD).sum(0), rtol=1e-3)


def test_known_texts_are_unit_vectors_and_unknown_ones_are_zero(encoder: TextEncoder) -> None:
    embedded = encoder.embed([*PROMPTS, "", "   \n\t", "zzzqq xyxyx", "漢字仮名"])
    np.testing.assert_allclose(np.linalg.norm(embedded[: len(PROMPTS)], axis=1), 1.0, atol=1e-5)
    assert not embedded[len(PROMPTS) :].any()
    np.testing.assert_allclose(np.linalg.norm(encoder.landmarks_LD, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("text", ["", "🙂🙃 \x00 ünï漢字", "\ud800 broken", "a" * 500_000, "?!.,"])
def test_every_text_has_finite_features(encoder: TextEncoder, text: str) -> None:
    features = encoder.encode([text])
    assert features.shape == (1, encoder.width)
    assert features.dtype == np.float32
    assert features[0, 0] == 1.0
    assert np.isfinite(features).all()


def test_no_query_at_all_is_no_row(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.width)


def test_a_batch_is_its_rows(encoder: TextEncoder) -> None:
    together = encoder.encode(QUERIES)
    for row, query in zip(together, QUERIES, strict=True):
        np.testing.assert_allclose(row, encoder.encode([query])[0], atol=1e-6)


def test_of_a_very_long_text_only_head_and_tail_are_read(encoder: TextEncoder) -> None:
    half = MAX_CHARACTERS // 2
    head, tail = ("treaty emperor " * half)[:half], ("enzyme neuron " * half)[-half:]
    one, other = (head + middle * 300_000 + tail for middle in ("x ", "prime divisor "))
    assert len(head_and_tail(one)) <= MAX_CHARACTERS + 1
    assert hashed_counts(one) == hashed_counts(other)
    assert hashed_counts(one) != hashed_counts(one[:-half] + "dynasty " * half)
    assert hashed_counts(one) != hashed_counts("dynasty " * half + one[half:])


def test_a_text_at_the_limit_is_read_whole() -> None:
    text = "w" * (MAX_CHARACTERS - 1) + "!"
    assert head_and_tail(text) == text


def test_words_count_whatever_their_capitals_and_pairs_count_beside_words() -> None:
    assert hashed_counts("Treaty EMPEROR") == hashed_counts("treaty emperor")
    assert hashed_counts("treaty emperor") != hashed_counts("emperor treaty")
    assert hashed_counts("treaty treaty").most_common(1)[0][1] == 2


def test_texts_of_one_topic_are_nearer_to_each_other(encoder: TextEncoder) -> None:
    history, more_history, biology = encoder.embed(
        ["the treaty of the emperor", "a dynasty and its parliament, a revolution", "neuron membrane protein"]
    )
    assert history @ more_history > history @ biology + 0.3


@pytest.mark.parametrize("prompts", [["one prompt"], ["same same", "same same"], ["a b c", "d e f"]])
def test_few_prompts_still_make_an_encoder(prompts: list[str]) -> None:
    encoder = fit_encoder(prompts, dimensions=64, landmarks=64)
    assert np.isfinite(encoder.encode([*prompts, "anything"])).all()


WORD = re.compile(r"\w+|[^\w\s]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
ODD_TEXTS = [
    "",
    "a\x1c\x1db\x85c\xa0d\u3000e\u2028f",
    "\x00\x01_x__ \x7f",
    "\ud800 a lone surrogate",
    "İstanbul ẞ e\u0301 ²½ ٣٤.٥ 3.4.5 5. .6 １２.３",
    "1.2.3 a1b2.5c 10.. 7" * 3,
]


@given(text=st.text(max_size=80) | st.text(st.characters(max_codepoint=127), max_size=200))
@settings(max_examples=300)
def test_words_marks_and_numbers_are_those_of_the_regular_expressions(text: str) -> None:
    assert words_and_marks(text) == [word.encode("utf-8", "surrogatepass") for word in WORD.findall(text)]
    assert [float(number) for number in numbers_in(text)] == [float(n) for n in NUMBER.findall(text)]
    assert list(map(len, numbers_in(text))) == list(map(len, NUMBER.findall(text)))


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_fall_into_the_same_words_and_numbers(text: str) -> None:
    assert words_and_marks(text) == [word.encode("utf-8", "surrogatepass") for word in WORD.findall(text)]
    assert [float(number) for number in numbers_in(text)] == [float(n) for n in NUMBER.findall(text)]

"""A tiny language model learns to route: taught the format by scripts, then by DAPO on recorded outcomes.

Of the scripts' episodes 20 % call the model that earned most, the others choose blindly.

Minutes on one core. Needs the extra `trl`: pip install -e '.[dev,trl]', then pytest -m slow tests/training/test_trl_learns.py
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

for _package in ("trl", "transformers", "peft", "datasets"):
    pytest.importorskip(_package, reason="needs pip install '.[trl]'")

from outcomes_kit import MODELS, synthetic_tables, write_tables  # noqa: E402
from router_training_kit import episode, sample  # noqa: E402
from tiny_llm_kit import tiny_model  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from xrouter.cli import app  # noqa: E402
from xrouter.messages import Completion, Request  # noqa: E402
from xrouter.tasks.outcomes import load_outcomes  # noqa: E402
from xrouter.tasks.recorded_world import RecordedWorld  # noqa: E402
from xrouter.training.dataset.rows import Sample, load_samples  # noqa: E402
from xrouter.training.router.episode import EpisodeResult, RouterEpisode  # noqa: E402
from xrouter.training.router.metrics import metrics  # noqa: E402
from xrouter.training.router.play import play  # noqa: E402
from xrouter.training.router.settings import router_of_data  # noqa: E402
from xrouter.training.trained_model import trained_model  # noqa: E402
from xrouter.training.trl.chat_template import ChatTemplate  # noqa: E402
from xrouter.training.trl.checkpoint_provider import checkpoint_provider  # noqa: E402
from xrouter.training.trl.demonstrations import demonstrations  # noqa: E402
from xrouter.training.trl.journal import read_journal  # noqa: E402
from xrouter.training.trl.policy_model import load_tokenizer  # noqa: E402
from xrouter.training.trl.rollouts import play_rollouts  # noqa: E402
from xrouter.training.trl.settings import DemonstrationSettings  # noqa: E402
from xrouter.training.trl.teacher import Script, Teacher  # noqa: E402

pytestmark = pytest.mark.slow
STEPS = 100
LAMBDA = 2.0
"""Of a call of `large`: that it is right nine times in ten is then not worth its price."""
RECIPE = """
bands = []
validation_share = 0.1
[[sources]]
outcomes = "{outcomes}"
[pools]
models = "outcomes"
set_share = 1.0
sets = {{ all = {models} }}
[episodes]
cost_weights = [{weight}]
max_turns = 2
[router]
max_tokens = 64
max_response_chars = 100
prompt = "brief"
"""
CONFIG = """
data = "{data}"
[world]
outcomes = ["{outcomes}"]
[trl]
model = "{model}"
device = "cpu"
threads = 1
steps = {steps}
groups = 8
group_size = 8
learning_rate = 1e-3
warmup_steps = 3
weight_decay = 0.0
problem_penalty = 0.3
validate_every = {every}
save_every = {every}
[trl.demonstrations]
teacher = "informed"
informed = 0.2
count = {demonstrations}
epochs = 6
batch = 16
micro_batch = 16
learning_rate = 3e-3
"""


class Kit:
    """Outcomes, data and an untaught model; `held_out` are questions of the test split."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes_folder = write_tables(synthetic_tables(train=400, test=60), folder / "outcomes")
        self.outcomes = load_outcomes(self.outcomes_folder)
        self.world = RecordedWorld(self.outcomes)
        recipe = folder / "recipe.toml"
        recipe.write_text(
            RECIPE.format(outcomes=self.outcomes_folder, models=json.dumps(list(MODELS)), weight=LAMBDA)
        )
        run("dataset", "build", "--recipe", str(recipe), "--out", str(folder / "data"))
        self.options = router_of_data(folder / "data")
        self.model = tiny_model(folder / "model", self._texts(), vocabulary=1_500)
        rows = [i for i, split in enumerate(self.outcomes.splits) if split == "test"]
        self.held_out = [sample(self.outcomes, row, cost_weight=LAMBDA, max_turns=2) for row in rows]

    def episode(self, one: Sample) -> RouterEpisode:
        return episode(self.world, one, options=self.options)

    def config(self, name: str, **fields: Any) -> Path:
        path = self.folder / f"{name}.toml"
        paths = {"data": self.folder / "data", "outcomes": self.outcomes_folder, "model": self.model}
        path.write_text(CONFIG.format(**paths, **fields))
        return path

    def judged(self, model: Path) -> list[EpisodeResult]:
        """Greedy, on the held-out questions, through the provider that judges checkpoints."""
        provider = checkpoint_provider(model, device="cpu")
        router = trained_model(self.options)

        async def replies(requests: Sequence[Request]) -> list[Completion]:
            return list(await asyncio.gather(*(provider.complete(router, one) for one in requests)))

        return asyncio.run(play([self.episode(one) for one in self.held_out], replies))

    def scripted(self, script: Callable[[Sample], Script]) -> list[EpisodeResult]:
        tokenizer = load_tokenizer(str(self.model))
        template = ChatTemplate(tokenizer, [tokenizer.eos_token_id])
        episodes = [self.episode(one) for one in self.held_out]
        scripts = {id(e): script(e.sample) for e in episodes}
        speaker = Teacher(scripts, template, self.options)
        rollouts = asyncio.run(play_rollouts(episodes, speaker, template, window=4_096))
        return [rollout.result for rollout in rollouts]

    def _texts(self) -> list[str]:
        """Whole episodes of training questions, for the tokenizer."""
        letters = load_tokenizer(str(tiny_model(self.folder / "letters", [], vocabulary=262)))
        template = ChatTemplate(letters, [letters.eos_token_id])
        samples = load_samples(self.folder / "data" / "train.parquet")
        wanted = DemonstrationSettings(count=120)
        shown = asyncio.run(
            demonstrations(samples, self.episode, template, self.options, wanted, window=100_000, seed=1)
        )
        return [letters.decode(one.transcript.ids) for one in shown]


def mean_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in ("reward", "cost_usd")}


def run(*words: str) -> None:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(tmp_path_factory.mktemp("learns"))


def test_reward_rises_and_cost_falls_on_questions_never_seen(kit: Kit) -> None:
    out = kit.folder / "run"
    config = kit.config("learns", steps=STEPS, every=20, demonstrations=1_200)
    run("router-train", str(config), "--out", str(out))
    before, *_, after = [row for row in read_journal(out) if "validation/reward" in row]
    assert (before["step"], after["step"]) == (0, STEPS)
    assert after["validation/reward"] > max(0.9, before["validation/reward"] - 0.02)
    played = [row for row in read_journal(out) if "reward" in row]
    early, late = mean_of(played[:5]), mean_of(played[-10:])
    assert late["reward"] > early["reward"] + 0.2
    assert late["cost_usd"] < early["cost_usd"] / 2
    assert (out / "learning_curve.png").stat().st_size > 10_000

    results = kit.judged(out / "model")
    trained = metrics(results)
    singles = {name: metrics(kit.scripted(lambda _, name=name: Script(((name,),), name))) for name in MODELS}
    rewards = {name: figures["reward"] for name, figures in singles.items()}
    drawn = sum(rewards.values()) / len(rewards)
    assert trained["reward"] > max(rewards.values()) + 0.2, (trained, rewards)
    assert trained["reward"] > drawn + 0.4
    assert trained["cost_usd"] < sum(figures["cost_usd"] for figures in singles.values()) / len(singles)
    for topic in ("sums", "poems"):
        asked = [
            r for r, one in zip(results, kit.held_out, strict=True) if one.task.dataset == f"kit/{topic}"
        ]
        right = sum(r.answered_by == f"small-{topic}" for r in asked)
        assert right > 0.8 * len(asked), f"it has to read the question: {topic}"


def test_a_run_goes_on_where_it_stopped(kit: Kit) -> None:
    out = kit.folder / "resumed"
    short = kit.config("short", steps=2, every=2, demonstrations=32)
    run("router-train", str(short), "--out", str(out))
    steps = [row["step"] for row in read_journal(out) if "step" in row]
    longer = kit.config("longer", steps=4, every=2, demonstrations=32)
    run("router-train", str(longer), "--out", str(out), "--resume")
    assert steps == [0, 1, 2]
    assert [row["step"] for row in read_journal(out) if "step" in row] == [0, 1, 2, 3, 4]
    assert sum("warm_step" in row for row in read_journal(out)) == 12
    other = CliRunner().invoke(app, ["router-train", str(short), "--out", str(out)])
    assert other.exit_code != 0
    assert "--resume" in str(other.exception)

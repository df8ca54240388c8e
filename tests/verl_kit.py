"""What verl needs to play our episodes on a CPU: data, a TOML, a tiny model folder, and a server that says what it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from dataset_kit import recipe_of
from outcomes_kit import synthetic_tables, write_tables

from xrouter.training.dataset.build import build
from xrouter.training.dataset.card import write_card
from xrouter.training.dataset.gather import gather

ROUTER_USD = (1.0, 2.0)
"""Per million tokens, in and out."""

TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' + messages[0].content + '\\n\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
        {%- for call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""Qwen2.5's template, with fewer words about the tools."""


def tiny_model(folder: Path, *, weights: bool = False) -> Path:
    """A Qwen2 of two small layers whose tokens are bytes, beside the special tokens of ChatML."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    tokenizer.add_tokens([AddedToken(name, special=False) for name in ("<tool_call>", "</tool_call>")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=False,
    )
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder)
    if weights:
        Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def data(folder: Path, *, train: int = 40) -> Path:
    """The folder with outcomes/ and, of these, data/ as `xrouter dataset build` writes it."""
    outcomes = write_tables(synthetic_tables(train, 4), folder / "outcomes")
    recipe = recipe_of(
        sources=[{"outcomes": str(outcomes)}],
        bands=[],
        validation_share=0.2,
        pools={"models": "outcomes", "tiers": {"budget": [2, 4]}},
        episodes={"cost_weights": [0.1]},
    )
    gathered = gather(recipe)
    built = build(gathered.questions, {}, gathered.recorded, recipe, folder / "data")
    write_card(built, recipe, folder / "data", {})
    return folder


def toml(folder: Path, model: str | Path, **verl: Any) -> Path:
    """A TOML for the data in the folder; `verl` goes over small numbers."""
    table = {
        "model": str(model),
        "gpus_per_node": 1,
        "prompts": 4,
        "rollouts": 4,
        "mini_batch": 2,
        "max_prompt_tokens": 12_000,
        "max_response_tokens": 4_000,
        "loop_workers": 1,
        **verl,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    path = folder / "router.toml"
    path.write_text(
        f'data = "{folder / "data"}"\n'
        f'[world]\noutcomes = ["{folder / "outcomes"}"]\n'
        f'[router]\nprice = {{ input = "{ROUTER_USD[0]}", output = "{ROUTER_USD[1]}" }}\n'
        '[reward]\nkind = "linear"\n[verl]\n' + "\n".join(lines) + "\n"
    )
    return path


def call(*models: str) -> str:
    """Tool calls as the template writes them."""
    return "\n".join(
        f'<tool_call>\n{{"name": "call_{model}", "arguments": {{}}}}\n</tool_call>' for model in models
    )


def select(call_id: str) -> str:
    return (
        f'<tool_call>\n{{"name": "select_response", "arguments": {{"call_id": "{call_id}"}}}}\n</tool_call>'
    )


class ScriptedServer:
    """In place of verl's client of the engines: `says` is given the decoded prompt and writes the reply."""

    def __init__(self, tokenizer: Any, says: Callable[[str], str]) -> None:
        self.tokenizer = tokenizer
        self.says = says
        self.asked: list[tuple[list[int], dict[str, Any]]] = []
        self.said: list[list[int]] = []

    async def generate(
        self, request_id: str, *, prompt_ids: Sequence[int], sampling_params: dict[str, Any], **_: Any
    ) -> Any:
        from verl.workers.rollout.replica import TokenOutput

        self.asked.append((list(prompt_ids), dict(sampling_params)))
        text = self.says(self.tokenizer.decode(prompt_ids))
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        ids = ids[: sampling_params["max_tokens"]]
        self.said.append(ids)
        return TokenOutput(
            token_ids=ids,
            log_probs=[-0.5] * len(ids),
            stop_reason="completed",
            num_preempted=0,
            extra_fields={"global_steps": 7, "min_global_steps": 7, "max_global_steps": 7},
        )


def offered(prompt: str) -> list[str]:
    return re.findall(r'"name": "call_([\w-]+)"', prompt.split("</tools>")[0])


def shown_ids(prompt: str) -> list[str]:
    return re.findall(r'"call_id": "([^"]+)"', prompt.split("</tools>")[1])


def ask_two_then_select(prompt: str) -> str:
    ids = shown_ids(prompt)
    return select(ids[0]) if ids else call(*offered(prompt)[:2])


class Stage:
    """verl's configuration of a run, its dataset and its agent loop worker."""

    def __init__(self, folder: Path, run: Path, says: Callable[[str], str], **verl: Any) -> None:
        from omegaconf import OmegaConf
        from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
        from verl.utils.dataset.rl_dataset import RLHFDataset

        from xrouter.training.verl.launch import CONFIG, prepare

        with ThreadPoolExecutor(1) as threads:  # it has a loop of its own, and tests run in one
            threads.submit(prepare, toml(folder, folder / "model", **verl), run).result()
        self.config = OmegaConf.load(run / CONFIG)
        self.server = ScriptedServer(None, says)
        self.worker = AgentLoopWorker(self.config, self.server)
        self.tokenizer = self.server.tokenizer = self.worker.tokenizer
        self.rows = RLHFDataset(list(self.config.data.train_files), self.tokenizer, self.config.data)

    def batch(self, *rows: int) -> Any:
        from verl import DataProto
        from verl.utils.dataset.rl_dataset import collate_fn

        return DataProto.from_single_dict(collate_fn([self.rows[row] for row in rows]))

    async def play(self, *rows: int) -> Any:
        return await self.worker.generate_sequences(self.batch(*rows))

    async def outputs(self, row: int, rollouts: int) -> list[Any]:
        """What the loop itself handed over, for each rollout of one row."""
        kept: list[Any] = []

        async def keep(output: Any, validate: bool, **_: Any) -> None:
            kept.append(output)

        self.worker._agent_loop_postprocess = keep
        fields = {name: values[0] for name, values in self.batch(row).non_tensor_batch.items()}
        trajectory = {"step": 1, "sample_index": row, "rollout_n": 0, "validate": False}
        for _ in range(rollouts):
            await self.worker._run_agent_loop(
                {"temperature": 1.0}, trajectory, agent_name="xrouter", **fields
            )
        return kept


class Dice:
    """Calls one or two models at random, then selects at random; now and then a tool that is not there."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)

    def __call__(self, prompt: str) -> str:
        ids = shown_ids(prompt)
        if ids:
            return select(self.random.choice(ids))
        if self.random.random() < 0.1:
            return call("nobody")
        models = offered(prompt)
        return call(*self.random.sample(models, min(len(models), self.random.choice((1, 2)))))

"""The model that is trained: loading it, and writing it for a server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

from ...errors import ConfigurationError
from .chat_template import ChatTemplate
from .settings import LoraSettings, TRLSettings

ADAPTER = "adapter_config.json"


@dataclass(slots=True)
class PolicyModel:
    """model: with adapters where there are any. window: tokens it can take. stored: the type of its weights on disk.

    half: computes in bfloat16; `autocast` makes the context for that.
    """

    model: Any
    tokenizer: Any
    template: ChatTemplate
    window: int
    stored: torch.dtype
    half: bool

    def autocast(self) -> AbstractContextManager[Any]:
        if not self.half:
            return nullcontext()
        return torch.autocast(next(self.model.parameters()).device.type, torch.bfloat16)

    def save(self, folder: Path) -> None:
        """For a server: merged with its adapters, in the type that it came in, with tokenizer and template."""
        model = self.model
        if hasattr(model, "merge_and_unload"):
            model = _merged(model)
        kept = {name: tensor.detach().to(self.stored) for name, tensor in model.state_dict().items()}
        model.config.dtype = self.stored
        model.save_pretrained(folder, state_dict=kept)
        self.tokenizer.save_pretrained(folder)


def load_policy(settings: TRLSettings, *, weights: Path | None = None) -> PolicyModel:
    """The model of the settings, or its trained weights (an adapter's, or all of them) in the folder `weights`.

    Raises ConfigurationError for what cannot be loaded or trained.
    """
    device = device_of(settings.device)
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and computes_in_bfloat16(device))
    adapter = weights is not None and (weights / ADAPTER).exists()
    source = settings.model if weights is None or adapter else str(weights)
    dtype = torch.bfloat16 if half and settings.lora else torch.float32
    model, stored = load_weights(source, device, dtype)
    window = window_of(model)
    tokenizer = load_tokenizer(settings.model, settings.chat_template)
    stops = stop_ids(model, tokenizer)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    if settings.lora is not None:
        model = _with_adapters(model, settings.lora, weights if adapter else None)

    return PolicyModel(model, tokenizer, ChatTemplate(tokenizer, stops), window, stored, half)


def device_of(name: str) -> torch.device:
    """Raises ConfigurationError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"trl.device = {name!r} is no device of this machine: {error}") from error
    return device


def computes_in_bfloat16(device: torch.device) -> bool:
    """On a CPU only where matrix units do it (AMX); elsewhere float32 is as fast or faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def load_tokenizer(source: str, chat_template: str | None = None) -> Any:
    """chat_template: a file, in place of the tokenizer's own.

    Raises ConfigurationError for one without a chat template, and for one that hides tool calls.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"trl.model: {source} has no tokenizer: {error}", param="trl.model"
        ) from error
    if chat_template is not None:
        try:
            tokenizer.chat_template = Path(chat_template).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"trl.chat_template: {chat_template} cannot be read: {error}", param="trl.chat_template"
            ) from error
    if tokenizer.chat_template is None:
        raise ConfigurationError(
            f"trl.model: the tokenizer of {source} has no chat template: use an instruction-tuned model",
            param="trl.model",
        )
    hidden = {"<tool_call>", "</tool_call>"} & set(tokenizer.all_special_tokens)
    if hidden:
        raise ConfigurationError(
            f"trl.model: the tokenizer of {source} has {min(hidden)} as a special token, so that servers would strip "
            "it from replies: make it an added token with special=false",
            param="trl.model",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokenizer's end of text first, then those that the model's generation settings name."""
    named: int | Sequence[int] | None = model.generation_config.eos_token_id
    others = [] if named is None else [named] if isinstance(named, int) else list(named)
    return tuple(dict.fromkeys([tokenizer.eos_token_id, *others]))


def window_of(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def load_weights(
    source: str, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[Any, torch.dtype]:
    """(the model, the type of its weights on disk). dtype: None = as on disk where the device computes in it, else float32.

    Raises ConfigurationError.
    """
    logging.disable_progress_bar()  # the command line has one of its own
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"trl.model: {source} cannot be loaded as a language model: {error}", param="trl.model"
        ) from error
    stored = model.dtype
    if dtype is None:
        dtype = stored if stored != torch.bfloat16 or computes_in_bfloat16(device) else torch.float32
    return model.to(device, dtype), stored


def _with_adapters(model: Any, lora: LoraSettings, saved: Path | None) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    if saved is not None:
        return PeftModel.from_pretrained(model, saved, is_trainable=True)
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=list(lora.targets) or "all-linear",
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise ConfigurationError(f"trl.lora: {error}", param="trl.lora") from error


def _merged(model: Any) -> Any:
    """A copy with the adapters in its weights; the model itself goes on training."""
    import copy

    return copy.deepcopy(model).merge_and_unload()

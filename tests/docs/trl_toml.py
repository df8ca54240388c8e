"""What a `# train-router.toml` in the documentation must be: read by its trainer, and true about the defaults it claims to show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from xrouter.training.router.settings import load_training
from xrouter.training.trl.settings import LoraSettings, TRLSettings, read_trl


def check_trl_toml(text: str, folder: Path) -> None:
    """Raises AssertionError, or ConfigurationError naming the key."""
    (folder / "card.json").write_text(json.dumps({"recipe": {"router": {}}}), encoding="utf-8")
    file = folder / "train-router.toml"
    file.write_text(text.replace("data/mine", str(folder)), encoding="utf-8")
    settings = load_training(file, "trl", read_trl).trainer
    assert isinstance(settings, TRLSettings)
    if settings.chat_template is not None:  # the file with all keys
        assert settings.lora == LoraSettings()
        assert replace(settings, lora=None, chat_template=None) == TRLSettings(model=settings.model)

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xrouter.errors import ConfigurationError
from xrouter.messages import Request
from xrouter.observability.prompts import PromptStore
from xrouter.observability.redaction import load_redaction, redacted

REQUEST = Request.from_messages(
    [{"role": "user", "content": [{"type": "text", "text": "card 4111"}]}], user="ada 4111", temperature=0.5
)
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "4111 it is"}}], "usage": {"total": 1}}


def hide(text: str) -> str:
    return text.replace("4111", "****")


def store(path: Path, **options: Any) -> PromptStore:
    return PromptStore(path, **{"redact": None, "max_bytes": 1_000_000, "files": 3, **options})


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_request_and_answer(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "prompts.jsonl"
    prompts = store(path)
    prompts.store("req_1", REQUEST, ANSWER, model="xrouter", key_id="key_1")
    prompts.store("req_2", REQUEST, None, model="small")
    prompts.close()
    whole, failed = read(path)
    assert whole["at"] > 0
    assert (whole["request_id"], whole["key_id"], whole["model"]) == ("req_1", "key_1", "xrouter")
    assert whole["messages"] == list(REQUEST.messages)
    assert whole["params"] == REQUEST.params
    assert whole["choices"] == ANSWER["choices"]
    assert failed["choices"] is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_text_is_redacted(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    prompts = store(path, redact=hide)
    prompts.store("req_1", REQUEST, ANSWER, model="xrouter")
    prompts.close()
    assert "4111" not in path.read_text()
    (line,) = read(path)
    assert line["messages"][0]["content"][0]["text"] == "card ****"
    assert line["params"] == {"user": "ada ****", "temperature": 0.5}


@pytest.mark.parametrize("hook", [lambda text: 1 / 0, lambda text: None])
def test_what_cannot_be_redacted_is_not_stored(
    tmp_path: Path, hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prompts.jsonl"
    prompts = store(path, redact=hook)
    prompts.store("req_1", REQUEST, ANSWER, model="xrouter")
    prompts.close()
    assert path.read_text() == ""
    assert "req_1 was not stored" in caplog.text
    assert "4111" not in caplog.text


def test_rotation_keeps_so_many_and_loses_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    prompts = store(path, max_bytes=700, files=2)
    for i in range(30):
        prompts.store(f"req_{i}", REQUEST, ANSWER, model="xrouter")
    prompts.close()
    assert {file.name for file in tmp_path.iterdir()} == {
        "prompts.jsonl",
        "prompts.jsonl.1",
        "prompts.jsonl.2",
    }
    assert all(file.stat().st_size <= 700 for file in tmp_path.iterdir())
    kept = [
        line["request_id"]
        for file in ("prompts.jsonl.2", "prompts.jsonl.1", "prompts.jsonl")
        for line in read(tmp_path / file)
    ]
    assert kept == [f"req_{i}" for i in range(30 - len(kept), 30)]


def test_an_entry_larger_than_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    prompts = store(path, max_bytes=10)
    for name in "ab":
        prompts.store(name, REQUEST, ANSWER, model="xrouter")
    prompts.close()
    assert [read(path)[0]["request_id"], read(tmp_path / "prompts.jsonl.1")[0]["request_id"]] == ["b", "a"]


def test_workers_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    code = f"""
import sys
from pathlib import Path
from xrouter.messages import Request
from xrouter.observability.prompts import PromptStore
prompts = PromptStore(Path({str(path)!r}), redact=None, max_bytes=5000, files=1000)
for i in range(100):
    prompts.store(f"{{sys.argv[1]}}-{{i}}", Request.from_text("x" * 50), None, model="m")
prompts.close()
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    files = list(tmp_path.iterdir())
    assert len(files) > 3
    seen = [line["request_id"] for file in files for line in read(file)]
    assert sorted(seen) == sorted(f"{n}-{i}" for n in range(3) for i in range(100))


def test_redaction_hooks() -> None:
    assert load_redaction(None) is None
    with pytest.raises(ConfigurationError, match=r"observability\.redact"):
        load_redaction("nowhere:redact")
    assert redacted({"4111": ["4111", 4111, None, ("4111",)]}, hide) == {
        "4111": ["****", 4111, None, ["****"]]
    }

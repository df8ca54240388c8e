"""`xrouter` with an ear for SIGUSR1: it then writes how many asyncio tasks there are to the file it was given.

python -m benchmarks.gateway.watched_serve FILE serve --config xrouter.toml
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from xrouter.cli import main


def tell_tasks(file: Path) -> None:
    def tell(*_: object) -> None:
        try:
            tasks = len(asyncio.all_tasks())
        except RuntimeError:
            return  # no loop runs yet
        part = file.with_suffix(".part")
        part.write_text(str(tasks))
        part.replace(file)

    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    tell_tasks(Path(sys.argv.pop(1)))
    main()

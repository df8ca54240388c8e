"""xrouter: one endpoint in front of many LLMs, and a learned policy that decides whom to ask.

    from xrouter import Router

    with Router() as router:
        answer = router.answer("What is the capital of France?", preset="economy")
        print(answer.text, answer.model, answer.cost_usd)

Names are loaded on first use, so that `import xrouter` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from .answer import Answer as Answer
    from .episodes.episode import Preference as Preference
    from .messages import Request as Request
    from .router import Router as Router

    __version__: str

__all__ = ["Answer", "Preference", "Request", "Router", "__version__", "errors"]

_HOMES = {
    "Answer": ".answer",
    "Preference": ".episodes.episode",
    "Request": ".messages",
    "Router": ".router",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name == "errors":
        return import_module(".errors", __name__)
    if name == "__version__":
        from importlib.metadata import version

        return version("xrouter")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Token counts that cannot be true: what a broken or hostile upstream may not charge to anybody's budget.

An upstream's own counts are the bill, so they are believed as far as the model can read and write at all. A lie within
that costs one call at most what its model's whole window costs.
"""

from __future__ import annotations

from ..catalog.model import Model
from ..messages import Request, Usage
from .cost import bound_prompt_tokens, choices


def believed(usage: Usage, model: Model, request: Request) -> Usage:
    """The usage, with what lies beyond the model's window cut off and then marked as estimated."""
    longest_output = choices(request) * max(model.context_window, model.max_output_tokens)
    if usage.prompt_tokens <= model.context_window and usage.completion_tokens <= longest_output:
        return usage
    # The window that the catalog states may be too small; the prompt that was sent is known.
    prompt = min(usage.prompt_tokens, max(model.context_window, bound_prompt_tokens(request)))
    completion = min(usage.completion_tokens, longest_output)
    if (prompt, completion) == (usage.prompt_tokens, usage.completion_tokens):
        return usage
    return Usage(
        prompt,
        completion,
        min(usage.cached_tokens, prompt),
        min(usage.reasoning_tokens, completion),
        estimated=True,
    )

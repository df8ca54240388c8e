"""What flaws of a response take from its chance of being right: stated, not learned, for no recording shows enough of them.

Doubt is in log-odds. A response that answers nothing has no vote and hardly a chance, so that whatever else can still be
asked is worth more; one that was cut off after it had said its answer votes with less weight and is handed over last.
"""

from __future__ import annotations

from ..episodes.episode import Response

NO_ANSWER = 8.0
"""Refused, empty, given up, cut off before an answer, or in a format that the client cannot read."""
CUT_AFTER_ANSWER = 1.5
"""An even chance becomes one of 0.18. Whoever reads the answer gets it without its end."""


def doubt(response: Response) -> float:
    """Log-odds taken from the chance that this response is right; 0 for a sound or failed one."""
    if response.useless:
        return NO_ANSWER
    return CUT_AFTER_ANSWER if response.flaws else 0.0

"""Which of several endpoints to ask first: by weight, and the same one for the same key. Pure functions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from ..catalog.model import ModelEndpoint

_UNIT = 2.0**-53


def ranked(
    endpoints: Sequence[ModelEndpoint], affinity: str | None, draw: Callable[[], float]
) -> list[ModelEndpoint]:
    """The endpoints in the order in which to try them. `draw` gives random numbers from [0, 1).

    Each endpoint gets -ln(u) / weight, the smallest first, so that it comes first with a probability in proportion to
    its weight (P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", 2006). With an
    affinity u is a hash of it and the endpoint's name (weighted rendezvous hashing; C. Schindelhauer and
    G. Schomaker, "Weighted distributed hash tables", SPAA 2005): the order is then always the same, and taking an
    endpoint away moves only those keys that were on it.
    """

    def distance(endpoint: ModelEndpoint) -> float:
        u = draw() if affinity is None else hashed(affinity, endpoint.name)
        return -math.log(u + _UNIT) / endpoint.weight

    return sorted(endpoints, key=distance)


def hashed(affinity: str, name: str) -> float:
    """A number in [0, 1) that depends on both and is the same in every process."""
    digest = hashlib.blake2b(f"{name}\n{affinity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) * _UNIT

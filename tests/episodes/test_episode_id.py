"""Names of episodes."""

from __future__ import annotations

import re
import time

from xrouter.episodes.episode_id import new_episode_id


def test_names_are_unlike_and_in_order_of_time() -> None:
    earlier = {new_episode_id() for _ in range(2000)}
    time.sleep(0.002)
    later = {new_episode_id() for _ in range(2000)}
    assert len(earlier | later) == 4000
    assert max(earlier) < min(later)
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in earlier)

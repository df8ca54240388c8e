from __future__ import annotations

import pytest

from xrouter.gateway.client_key import bearer


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([(b"authorization", b"Bearer sk-1")], "sk-1"),
        ([(b"authorization", b"bearer  sk-1 ")], "sk-1"),
        ([(b"x-api-key", b"sk-2")], "sk-2"),
        ([(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")], "sk-1"),
        ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"sk-2")], "sk-2"),
        ([(b"authorization", b"Basic dTpw")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"authorization", b"Bearer \xff")], "\xff"),
    ],
)
def test_where_clients_put_their_key(headers: list[tuple[bytes, bytes]], key: str | None) -> None:
    assert bearer({"headers": headers}) == key

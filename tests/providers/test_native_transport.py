"""The transport of our own against a server that a test scripts byte by byte."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from xrouter.errors import (
    ProviderError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.providers.native_connection import MAX_HEAD_BYTES, MAX_WAITING_BYTES
from xrouter.providers.native_transport import NativeTransport
from xrouter.providers.transport import Answer, Faults

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAULTS = Faults("p", "http://mock")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """`answer` is called for every request with the writer and the number of its connection."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.hung_up = asyncio.Event()
        self.answer: Callable[[asyncio.StreamWriter, int], Awaitable[None]] = self._ok
        self.port = 0

    async def _ok(self, writer: asyncio.StreamWriter, connection: int) -> None:
        writer.write(OK)

    def sends(self, *pieces: bytes, close: bool = False) -> None:
        async def answer(writer: asyncio.StreamWriter, connection: int) -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
            if close:
                writer.close()

        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        mine = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.answer(writer, mine)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()


@asynccontextmanager
async def served(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with served(Server()) as server:
        yield server


@pytest.fixture
async def transport(server: Server) -> AsyncIterator[NativeTransport]:
    transport = NativeTransport(f"http://127.0.0.1:{server.port}/v1/x?a=b", FAULTS)
    yield transport
    await transport.aclose()


async def body_of(answer: Answer) -> bytes:
    pieces = []
    while data := await answer.read():
        pieces.append(data)
    return b"".join(pieces)


async def ask(transport: NativeTransport, body: bytes = b"{}") -> bytes:
    return await body_of(await transport.post(body, {"X-One": "1"}, "m"))


async def test_what_goes_out(transport: NativeTransport, server: Server) -> None:
    assert await ask(transport, b'{"a":1}') == b"ok"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/x?a=b HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}".encode(),
        b"X-One: 1",
        b"Content-Length: 7",
    ]
    assert body == b'{"a":1}'


async def test_a_long_body_goes_out_whole(transport: NativeTransport, server: Server) -> None:
    body = bytes(range(256)) * 20_000
    assert await ask(transport, body) == b"ok"
    assert server.requests[0].endswith(body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"), b"hello"),
        ((CHUNKED + b"5;ext=1\r\nhel", b"lo\r\n1\r\n!\r\n0\r\nX-Trailer: 1\r\n\r\n"), b"hello!"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), b"ok"),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,), b"ok"),
        (tuple(OK[i : i + 1] for i in range(len(OK))), b"ok"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), b""),
    ],
)
async def test_bodies_and_reuse(
    transport: NativeTransport, server: Server, pieces: tuple[bytes, ...], body: bytes
) -> None:
    server.sends(*pieces)
    for _ in range(2):
        assert await ask(transport) == body
    assert server.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,  # an answer that nobody asked for
    ],
)
async def test_connections_that_are_not_used_again(
    transport: NativeTransport, server: Server, reply: bytes
) -> None:
    server.sends(reply)
    for _ in range(2):
        assert await ask(transport) == b"ok"
    assert server.connections == 2


async def test_a_body_may_end_with_the_connection(transport: NativeTransport, server: Server) -> None:
    server.sends(b"HTTP/1.1 200 OK\r\n\r\nall ", b"of it", close=True)
    assert await ask(transport) == b"all of it"


async def test_headers_are_found_in_any_case(transport: NativeTransport, server: Server) -> None:
    server.sends(b"HTTP/1.1 200 OK\r\ncOnTent-tyPe: a/b\r\nX: 1\r\nx: 2\r\nContent-Length: 0\r\n\r\n")
    answer = await transport.post(b"", {}, "m")
    assert answer.headers.get("Content-Type") == "a/b"
    assert answer.headers.get("X") == "1, 2"
    assert answer.headers.get("Missing", "no") == "no"


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), ProviderResponseError),
        ((CHUNKED, b"5\r\nhel"), ProviderResponseError),
        ((b"HTTP/1.1 200 OK\r\nContent-",), ProviderResponseError),
        ((b"SSH-2.0-OpenSSH\r\n",), ProviderResponseError),
        ((CHUNKED, b"zz\r\nhello\r\n"), ProviderResponseError),
        (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",),
            ProviderResponseError,
        ),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",), ProviderResponseError),
        (
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
            ProviderResponseError,
        ),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD_BYTES + 10),), ProviderResponseError),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,), ProviderResponseError),
        ((), ProviderUnavailableError),
    ],
)
async def test_broken_answers(
    transport: NativeTransport, server: Server, pieces: tuple[bytes, ...], kind: type[ProviderError]
) -> None:
    server.sends(*pieces, close=True)
    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(5):
            await ask(transport)
    assert type(caught.value) is kind
    assert caught.value.model == "m"
    server.sends(OK)
    assert await ask(transport) == b"ok"


async def test_a_kept_connection_that_was_closed_is_replaced_once(
    transport: NativeTransport, server: Server
) -> None:
    assert await ask(transport) == b"ok"

    async def close_the_old_one(writer: asyncio.StreamWriter, connection: int) -> None:
        if connection == 1:
            writer.close()
        else:
            writer.write(OK)

    server.answer = close_the_old_one
    assert await ask(transport) == b"ok"
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_a_fresh_connection_that_is_closed_is_not_tried_again(
    transport: NativeTransport, server: Server
) -> None:
    server.sends(close=True)
    with pytest.raises(ProviderUnavailableError):
        await ask(transport)
    assert len(server.requests) == 1


async def test_after_a_first_byte_nothing_is_sent_twice(transport: NativeTransport, server: Server) -> None:
    assert await ask(transport) == b"ok"
    server.sends(b"HTTP/1.1 2", close=True)
    with pytest.raises(ProviderResponseError):
        await ask(transport)
    assert len(server.requests) == 2


async def test_bytes_on_an_idle_connection_close_it(transport: NativeTransport, server: Server) -> None:
    async def and_more_later(writer: asyncio.StreamWriter, connection: int) -> None:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(OK.replace(b"ok", b"no"))

    server.answer = and_more_later
    assert await ask(transport) == b"ok"
    await asyncio.sleep(0.05)
    assert await ask(transport) == b"ok"
    assert server.connections == 2


async def test_idle_connections_are_closed(server: Server) -> None:
    transport = NativeTransport(f"http://127.0.0.1:{server.port}/", FAULTS, keepalive_s=0.05)
    assert await ask(transport) == b"ok"
    async with asyncio.timeout(2):
        await server.hung_up.wait()
    assert await ask(transport) == b"ok"
    await transport.aclose()


async def test_cancelling_while_waiting_hangs_up_and_spares_the_others(
    transport: NativeTransport, server: Server
) -> None:
    async def only_the_second(writer: asyncio.StreamWriter, connection: int) -> None:
        if connection > 1:
            writer.write(OK)

    server.answer = only_the_second
    first = asyncio.ensure_future(ask(transport))
    await asyncio.sleep(0.02)
    assert await ask(transport) == b"ok"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(0.1):
        await server.hung_up.wait()
    assert await ask(transport) == b"ok"
    assert server.connections == 2


async def test_an_answer_that_has_ended_does_not_touch_its_connection(
    transport: NativeTransport, server: Server
) -> None:
    old = await transport.post(b"", {}, "m")
    assert await body_of(old) == b"ok"
    release = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter, connection: int) -> None:
        await release.wait()
        writer.write(OK)

    server.answer = slow
    newer = asyncio.ensure_future(ask(transport))
    await asyncio.sleep(0.02)
    old.hang_up()
    await old.finish()
    release.set()
    assert await newer == b"ok"
    assert server.connections == 1


async def test_what_nobody_reads_waits_at_the_other_end(transport: NativeTransport, server: Server) -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter, connection: int) -> None:
        nonlocal sent
        size = 64 * 1024 * 1024
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while sent < size:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    server.answer = flood
    answer = await transport.post(b"", {}, "m")
    await asyncio.sleep(0.3)
    assert answer._waiting_bytes < MAX_WAITING_BYTES + 1024 * 1024
    assert sent < 32 * 1024 * 1024
    assert len(await body_of(answer)) == 64 * 1024 * 1024


async def test_what_comes_can_be_taken_without_reading(transport: NativeTransport, server: Server) -> None:
    server.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\na", b"b", b"c", b"d", b"e", b"f")
    answer = await transport.post(b"", {}, "m")
    assert await answer.read() == b"a"
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return data != b"c"

    await answer.push(take)
    assert taken == [b"b", b"c"], "it was told to stop there"
    assert await answer.read() == b"d"
    await answer.push(take)
    assert taken == [b"b", b"c", b"e", b"f"]
    await answer.push(take)
    assert await answer.read() == b""


async def test_what_waits_is_read_before_more_is_taken(transport: NativeTransport, server: Server) -> None:
    server.sends(OK)
    answer = await transport.post(b"", {}, "m")
    await answer.push(lambda data: pytest.fail("it was there before"))
    assert await answer.read() == b"ok"


async def test_taking_fails_as_the_taker_or_the_connection_does(
    transport: NativeTransport, server: Server
) -> None:
    server.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na", b"b", close=True)
    answer = await transport.post(b"", {}, "m")
    await answer.read()

    def refuse(data: bytes) -> bool:
        raise ValueError(data)

    with pytest.raises(ValueError, match="b"):
        await answer.push(refuse)
    with pytest.raises(ProviderResponseError, match="dropped the connection"):
        await answer.push(lambda data: True)


async def test_an_answer_left_behind_is_given_a_moment(transport: NativeTransport, server: Server) -> None:
    server.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", b"bc")
    answer = await transport.post(b"", {}, "m")
    assert await answer.read() == b"a"
    await answer.finish()
    await asyncio.sleep(0.05)
    await ask(transport)
    assert server.connections == 1
    server.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
    await (await transport.post(b"", {}, "m")).finish()
    async with asyncio.timeout(1):
        await server.hung_up.wait()


async def test_connecting_is_bounded() -> None:
    """TLS to a server that never shakes hands."""
    async with served(Server()) as server:
        transport = NativeTransport(f"https://127.0.0.1:{server.port}/", FAULTS, connect_timeout_s=0.1)
        with pytest.raises(ProviderTimeoutError, match=r"0\.1 s"):
            await ask(transport)
        await transport.aclose()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl, which makes the certificate, is not there")
    return key, cert


async def test_tls(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    async with served(Server(), serving) as server:
        url = f"https://localhost:{server.port}/"
        trusted = NativeTransport(url, FAULTS, tls=ssl.create_default_context(cafile=str(cert)))
        for _ in range(2):
            assert await ask(trusted) == b"ok"
        assert server.connections == 1
        await trusted.aclose()
        stranger = NativeTransport(url, FAULTS)
        with pytest.raises(ProviderUnavailableError, match="SSLCertVerificationError"):
            await ask(stranger)
        await stranger.aclose()


async def test_many_at_once(transport: NativeTransport, server: Server) -> None:
    async def echo(writer: asyncio.StreamWriter, connection: int) -> None:
        body = server.requests[-1].partition(b"\r\n\r\n")[2]
        await asyncio.sleep(0.001)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    server.answer = echo
    bodies = [b"body %d" % i for i in range(50)]
    for _ in range(3):
        assert await asyncio.gather(*(ask(transport, body) for body in bodies)) == bodies
    assert server.connections <= 50

"""`python -m edge chat` as one types it: in a real terminal, and what it says where it cannot begin."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from asyncio.subprocess import PIPE, Process

import pytest

from tests.contract.device import PATIENCE, Device
from tests.flows.conftest import People

COMMAND = (sys.executable, "-m", "edge", "chat")
QUIT, ESCAPE = b"\x11", b"\x1b"
FREE = {name: value for name, value in os.environ.items() if not name.startswith("MESSENGER_")}


class Typist:
    """The command in a pseudo terminal."""

    def __init__(self, process: Process, master: int) -> None:
        self.process = process
        self._master = master
        self._seen = b""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self._seen += os.read(self._master, 65536)
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._master)
        self._more.set()

    def type(self, keys: bytes) -> None:
        """Types keys."""
        os.write(self._master, keys)

    async def until(self, text: str) -> None:
        """Waits until this has been drawn."""
        try:
            async with asyncio.timeout(2 * PATIENCE):
                while text.encode() not in self._seen:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"never drawn: {text}\n{self._seen[-3000:]!r}") from None

    async def close(self) -> None:
        """Ends it."""
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self._master)


async def start(*arguments: str) -> Typist:
    """Begins the command in a terminal of 100 by 30."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    env = FREE | {"TERM": "xterm-256color"}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
    )
    os.close(slave)
    return Typist(process, master)


async def test_a_conversation_in_a_terminal(people: People, bob: Device) -> None:
    """With a name alone one is signed in on the local stack, talks, and leaves with status 0."""
    user = people.name("alice")
    typist = await start(user, bob.user_id, "--url", people.url)
    try:
        await typist.until(bob.user_id)
        typist.type(b"Hello from a terminal\r")
        got = await bob.next("message.new")
        assert got["message"]["text"] == "Hello from a terminal"
        await bob.call("messages.send", chat_id=got["message"]["chat_id"], text="Likewise", client_msg_id="1")
        await typist.until("Likewise")
        typist.type(QUIT)
        assert await asyncio.wait_for(typist.process.wait(), PATIENCE) == 0
    finally:
        await typist.close()


async def test_a_refused_token_in_a_terminal(people: People) -> None:
    """A token that the server does not take ends the command with its reason and status 1."""
    token = people.token(people.name("alice")) + "forged"
    typist = await start(people.name("alice"), "--url", people.url, "--token", token)
    try:
        await typist.until("Not signed in")
        assert await asyncio.wait_for(typist.process.wait(), PATIENCE) == 1
    finally:
        await typist.close()


async def run(*arguments: str, **env: str) -> tuple[int, str]:
    """Status and words of the command without a terminal."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=FREE | env
    )
    out, err = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


async def test_help() -> None:
    """--help says how it is used."""
    status, said = await run("--help")
    assert status == 0
    for word in ("Usage: python -m edge chat", "USER", "--url", "--token", "MESSENGER_TOKEN"):
        assert word in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument"),
        (("a b",), "is no user id"),
        (("alice", "b&b"), "is no user id"),
        (("alice", "--url", "ftp://here"), "is no address"),
        (("alice", "--url", "nonsense"), "is no address"),
        (("alice", "--nothing"), "No such option"),
    ],
)
async def test_what_makes_no_sense(arguments: tuple[str, ...], said: str) -> None:
    """It ends with status 2 and says what would do."""
    status, words = await run(*arguments)
    assert status == 2
    assert said in words
    assert "Traceback" not in words


async def test_without_a_terminal() -> None:
    """Where there is no terminal it says so."""
    status, words = await run("alice", "--url", "http://127.0.0.1:1")
    assert status == 1
    assert "no terminal" in words


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "wants a token"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nOops", "HTTP 500 Oops"),
        (b"", "Nothing answers at"),
    ],
)
async def test_signing_in_by_a_name(answer: bytes, said: str) -> None:
    """Where a name is not enough, or nobody answers, it says what to do, with status 1."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    typist = await start("alice", "--url", f"http://127.0.0.1:{port}")
    try:
        await typist.until(said)
        assert await asyncio.wait_for(typist.process.wait(), PATIENCE) == 1
    finally:
        await typist.close()
        server.close()


async def test_somebody_else_s_token(people: People) -> None:
    """A token must be the user's own."""
    typist = await start("alice", "--token", people.token("bob"))
    try:
        await typist.until("is bob's, not alice's")
        assert await asyncio.wait_for(typist.process.wait(), PATIENCE) == 2
    finally:
        await typist.close()

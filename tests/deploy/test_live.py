"""The loops of `skaffold dev`: the components' own commands, on the live image's own environment."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_connection, socket

from tests.deploy.image import DESTINATION, Environment
from tests.deploy.manifests import Manifests

TIMEOUT_S = 40.0
SETTINGS = {
    "SERVICE": "edge",
    "LISTEN": "127.0.0.1:0",
    "REDIS_URLS": "redis://127.0.0.1:1",
    "AGGREGATOR_ADDRESS": "127.0.0.1:1",
    "DBAPI_ADDRESS": "127.0.0.1:1",
    "JWT_SECRET": "s" * 32,
    "DRAIN_SECONDS": "1",
    "PYTHONUNBUFFERED": "1",
}


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process group of its own, all of it gone at the end."""
    with subprocess.Popen(  # noqa: S603
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        guard = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            os.killpg(process.pid, signal.SIGKILL)


def await_line(process: "subprocess.Popen[str]", text: str) -> None:
    """Reads on until a line holds the text."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if text in line:
            return
    raise AssertionError("".join(read))


def command(manifests: Manifests) -> list[str]:
    """What the edge's container runs: shell, its flags, the script."""
    container = manifests.pods()["edge"].container
    return [*container["command"], *container["args"]]


def test_a_copied_file_is_live(
    overlay: Callable[[str], Manifests], edge_image: Environment, tmp_path: Path
) -> None:
    """A file that is copied to /live is running code a moment later, without a new image or pod."""
    shell, flags, script = command(overlay("dev"))
    live = tmp_path / "live"
    live.mkdir()
    script = script.replace(DESTINATION, str(edge_image.path)).replace("/live", str(live))
    environment = SETTINGS | {"PYTHONPATH": str(live), "PATH": f"{edge_image.path}/bin:/usr/bin:/bin"}
    with running([shell, flags, script], environment) as process:
        await_line(process, '"started"')
        main = live / "edge/__main__.py"
        main.write_text('print("changed", flush=True)\n' + main.read_text())
        await_line(process, "changed")
        await_line(process, '"started"')


def test_a_debugger_finds_the_service(overlay: Callable[[str], Manifests], edge_image: Environment) -> None:
    """In the overlay `debug` the service runs, and debugpy answers whoever attaches to the forwarded port."""
    manifests = overlay("debug")
    shell, flags, script = command(manifests)
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    script = script.replace(
        f"0.0.0.0:{manifests.pods()['edge'].ports['debugpy']}", f"{address[0]}:{address[1]}"
    )
    with running(
        [shell, flags, script], SETTINGS | {"PATH": f"{edge_image.path}/bin:/usr/bin:/bin"}
    ) as process:
        await_line(process, '"started"')
        with create_connection(address, TIMEOUT_S) as debugger:
            assert debugger.recv(64).startswith(b"Content-Length: ")

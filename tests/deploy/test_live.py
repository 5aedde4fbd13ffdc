"""The loop of `skaffold dev`: the live component's own command, on the live image's own environment."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


def test_a_copied_file_is_live(
    overlay: Callable[[str], Manifests], edge_image: Environment, tmp_path: Path
) -> None:
    """A file that is copied to /live is running code a moment later, without a new image or pod."""
    shell, flags, script = (lambda one: [*one["command"], *one["args"]])(
        overlay("dev").pods()["edge"].container
    )
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

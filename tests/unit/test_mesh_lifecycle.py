"""What every process does before it serves."""

import subprocess
import sys

PROCESS = """
import resource

from mesh.lifecycle import App, run
from mesh.settings import CommonSettings


async def wire(_: CommonSettings, app: App) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    print("descriptors", soft == hard)
    app.stop()


resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
run("somebody", CommonSettings, wire)
"""


def test_a_process_takes_the_descriptors_it_may_have() -> None:
    """However few a container begins with, an edge is not full at that many sockets."""
    command = [sys.executable, "-c", PROCESS]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stderr
    assert "descriptors True" in result.stdout

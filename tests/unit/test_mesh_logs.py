"""How calls and exceptions come out in the logs of a process."""

import json
import subprocess
import sys
from typing import Any

from mesh import call

PROCESS = """
import logging
import structlog
from mesh import call, logs
from mesh.errors import NotFound

logs.configure("test", level="INFO", style="json")
log = structlog.get_logger()
"""


def logged(program: str) -> list[dict[str, Any]]:
    """What a process that runs this program logs."""
    command = (sys.executable, "-c", PROCESS + program)
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own words
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]


def test_a_line_names_its_call() -> None:
    """Within a call a line has its user and trace; outside it has neither."""
    traceparent = call.new_traceparent()
    inside, outside = logged(f"""
with call.within(call.Call(user_id="alice", traceparent="{traceparent}")):
    log.info("inside")
log.info("outside")
""")
    assert (inside["user_id"], inside["trace_id"]) == ("alice", call.trace_id(traceparent))
    assert not {"user_id", "trace_id"} & outside.keys()


def test_exceptions_do_not_quote() -> None:
    """Frames, types and our own texts are logged, through causes and groups; other errors' texts are not."""
    ours, library = logged("""
def fails():
    try:
        raise ExceptionGroup("secret", [ValueError("secret"), KeyError("secret")])
    except ExceptionGroup as error:
        raise NotFound("There is no such chat.") from error

try:
    fails()
except NotFound:
    log.exception("failed")
    logging.getLogger("a.library").exception("failed")
""")
    assert ours["exception"] == library["exception"]
    assert "in fails" in ours["exception"]
    errors = [line for line in ours["exception"].splitlines() if line and not line.startswith("  ")]
    assert errors == [
        "ExceptionGroup",
        "ValueError",
        "KeyError",
        "and then:",
        "NotFound: There is no such chat.",
    ]

"""A short run of the fault harness: `make faults` in small, with the same checker."""

import asyncio
import json
import sys
from pathlib import Path

SEED = 3
LONGEST_S = 300
KINDS = ("kill-service", "kill-redis-empty", "kill-primary", "wire-mute", "wire-reset")


async def test_promises_hold_through_a_handful_of_faults(tmp_path: Path) -> None:
    """Servers and services are killed and wires cut under load; afterwards every promise is found kept."""
    only = [word for kind in KINDS for word in ("--only", kind)]
    command = (
        "-m",
        "faults",
        "--small",
        "--seed",
        str(SEED),
        "--minutes",
        "0.2",
        "--directory",
        str(tmp_path),
    )
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "TERM", sys.executable, *command, *only),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LONGEST_S):
        output, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    numbers = json.loads(output.splitlines()[-1])
    assert numbers["passed"]
    assert numbers["faults"] >= 2
    assert numbers["acked"] > 50
    assert b"history.jsonl" in told
    assert b"faults.png" in told

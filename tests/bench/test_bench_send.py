"""`python -m bench send` as a program: a stack of its own, one line of JSON, nothing left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil


def test_send(tmp_path: Path) -> None:
    """It delivers messages, tells what each process kind cost, and takes everything down again."""
    command = [sys.executable, "-m", "bench", "send", "--json", "--results", str(tmp_path / "results")]
    command += ["--shards", "1", "--pairs", "4", "--runs", "1", "--seconds", "1", "--warm-up", "0.5"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    for taken in ("STACK_PORT_BASE", "MESSENGER_PORT"):
        env.pop(taken, None)
    done = subprocess.run(  # noqa: S603  # ours
        command, env=env, capture_output=True, text=True, timeout=150, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["delivered_per_s"] > 0
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    costs = told["cpu_us_per_message"]
    assert costs["total"] > 0
    servers = {"nginx", "edge", "aggregator", "dbapi", "antispam", "dbstore", "mongod", "rabbitmq", "redis"}
    assert servers < set(costs)
    saved = json.loads((tmp_path / "results" / "send-shards-1.json").read_text())
    assert saved["machine"]["cores"] == os.cpu_count()
    assert (tmp_path / "results" / "send-shards-1.png").stat().st_size > 0
    assert not list(tmp_path.glob("bench-*"))
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info)]
    assert not left

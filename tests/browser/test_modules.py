"""Runs the tests of the web client's pure modules (`*.test.mjs`) on the Node.js that Playwright brings."""

import os
import subprocess
from pathlib import Path

import playwright
import pytest

NODE = Path(playwright.__file__).parent / "driver" / "node"
HERE = Path(__file__).parent


@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("*.test.mjs")))
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_module(file: str, zone: str) -> None:
    """Every promise of the module holds, whatever the reader's time zone."""
    # The page's modules need no package.json; Node.js remarks on that.
    options = ["--disable-warning=MODULE_TYPELESS_PACKAGE_JSON", "--test", "--test-timeout=10000"]
    command = [str(NODE), *options, str(HERE / file)]
    env = os.environ | {"TZ": zone, "LC_ALL": "en_US.UTF-8"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr

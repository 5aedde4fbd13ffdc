"""The image of the contract's suite: what it holds is enough to run the suite against a deployed system."""

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path

import pytest

from mesh.stack import Stack
from tests.deploy.image import context, copy, instructions
from tests.deploy.manifests import ROOT
from tests.deploy.test_image import locked

PARTS = ("runtime", "dev")
LIMIT_S = 120.0

# Imports only what the image has installed; site-packages here have more.
ONLY_WHAT_IS_THERE = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"the image has no {{name}}")

sys.meta_path.insert(0, Finder())
"""


def normal(name: str) -> str:
    """A package's name as the lock has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the image's file system: /suite, and the packages that the build stage installs."""
    directory, files = tmp_path_factory.mktemp("suite"), context()
    for name, rest in instructions("contract"):
        if name == "COPY" and not rest.startswith("--from="):
            *origins, target = rest.split()
            for origin in origins:
                copy(files, origin, directory, target)
    for package in ("edge", "mesh"):
        (directory / package).symlink_to(ROOT / package)
    for package in ("buf", "messenger"):
        (directory / package).symlink_to(ROOT / "protos/gen" / package)
    installed = locked(*PARTS)
    missing = {
        module
        for module, owners in packages_distributions().items()
        if not any(normal(owner) in installed for owner in owners)
    }
    (directory / "only.py").write_text(ONLY_WHAT_IS_THERE.format(missing=missing - {"buf", "messenger"}))
    return directory


def pytest_in(suite: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs pytest as the image does, without this project's own folders on the import path.

    Plugins of packages that the image lacks are left out: pytest would load whatever is installed here.
    """
    installed = locked(*PARTS)
    absent = [
        f"no:{plugin.name}"
        for plugin in entry_points(group="pytest11")
        if plugin.dist and normal(plugin.dist.name) not in installed
    ]
    plugins = [part for name in ("only", "no:cacheprovider", *absent) for part in ("-p", name)]
    command = [sys.executable, "-S", "-m", "pytest", *plugins, "-q"]
    path = f"{suite}:{sysconfig.get_path('purelib')}"
    return subprocess.run(  # noqa: S603
        [*command, "tests/contract", *arguments],
        cwd=suite, env={"PYTHONPATH": path, **environment}, check=False, capture_output=True, text=True,
        timeout=LIMIT_S,
    )  # fmt: skip


def test_every_test_is_there(suite: Path) -> None:
    """The suite imports whole from what the image holds, and nothing of it is left out."""
    result = pytest_in(suite, "--collect-only")
    assert result.returncode == 0, result.stdout + result.stderr
    here = {path.name for path in (ROOT / "tests/contract").glob("test_*.py")}
    assert set(re.findall(r"(test_\w+\.py)::", result.stdout)) == here


def test_it_asks_a_deployed_system(suite: Path, stack: Stack) -> None:
    """Given an address and the secret, as the Job gives them, it runs there."""
    url, secret = stack.settings.messenger_url, stack.env()["JWT_SECRET"]
    result = pytest_in(suite, "--url", url, "-k", "openrpc or probes", JWT_SECRET=secret)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout

"""The overlays as kustomize builds them, and the image's environment as the Dockerfile's steps build it."""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.image import Environment, build
from tests.deploy.manifests import ROOT, Manifests, parse


@pytest.fixture(scope="session")
def overlay() -> Callable[[str], Manifests]:
    """Builds an overlay by its name, once a session."""
    made = subprocess.run([ROOT / "deploy/kustomize.sh"], check=True, capture_output=True, text=True)  # noqa: S603
    command = made.stdout.split()

    @functools.cache
    def built(name: str) -> Manifests:
        directory = ROOT / "deploy/overlays" / name
        result = subprocess.run([*command, directory], check=False, capture_output=True, text=True)  # noqa: S603
        assert result.returncode == 0, result.stderr
        return parse(result.stdout)

    return built


class Building:
    """The edge's live image in the making: the Dockerfile's build stage, run beside the first tests."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="image-"))
        self._worker = ThreadPoolExecutor(1)
        self.image = self._worker.submit(build, self.directory, service="edge", parts="runtime live")

    def clean(self) -> None:
        """Waits for it and takes it away."""
        self._worker.shutdown()
        shutil.rmtree(self.directory)


BUILDING = pytest.StashKey[Building]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begins to build where a test will ask for it: it takes most of a minute, and nobody has to wait."""
    asked = any("edge_image" in getattr(item, "fixturenames", ()) for item in session.items)
    if asked and not session.config.option.collectonly:
        session.config.stash[BUILDING] = Building()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves nothing behind."""
    if BUILDING in config.stash:
        config.stash[BUILDING].clean()


@pytest.fixture(scope="session")
def edge_image(pytestconfig: pytest.Config) -> Environment:
    """What is in the edge's live image."""
    return pytestconfig.stash[BUILDING].image.result()


@pytest.fixture(scope="session")
def dockerfile() -> Path:
    """The one Dockerfile."""
    return ROOT / "Dockerfile"

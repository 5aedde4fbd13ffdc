"""The overlays as kustomize builds them, and the image's environment as the Dockerfile's steps build it."""

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def edge_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """What is in the edge's live image: the Dockerfile's build stage, run in a clean directory."""
    directory = tmp_path_factory.mktemp("image")
    yield build(directory, service="edge", parts="runtime live")
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def dockerfile() -> Path:
    """The one Dockerfile."""
    return ROOT / "Dockerfile"

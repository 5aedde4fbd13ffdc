"""The Dockerfile is clean, and its steps make what it says."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from deploy import services
from tests.deploy.image import Environment, instructions
from tests.deploy.manifests import ROOT

BUILD_TOOLS = {"grpcio-tools", "hatchling", "mypy-protobuf", "pip", "setuptools", "wheel"}


def locked(*parts: str) -> dict[str, str]:
    """Names and versions of a part of requirements.lock."""
    command = [sys.executable, str(ROOT / "deploy/image/locked.py"), *parts]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))


def test_hadolint_is_clean(dockerfile: Path) -> None:
    """The linter finds nothing."""
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, dockerfile], check=False, capture_output=True, text=True)  # noqa: S603
    assert (result.returncode, result.stdout) == (0, "")


def test_final_stages_run_as_nobody_and_build_nothing(dockerfile: Path) -> None:
    """Final stages take what the build stage made, run no command, and have a user without rights."""
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", dockerfile.read_text(), flags=re.MULTILINE)
    for stage in ("service", "contract"):
        steps = instructions(stage)
        assert ("USER", "10001:10001") in steps
        assert ("COPY", "--from=build /opt/messenger /opt/messenger") in steps
        assert "RUN" not in {name for name, _ in steps}


def test_the_steps_make_the_locked_environment(edge_image: Environment) -> None:
    """What the build stage's steps install is the lock's runtime part and us: nothing else, no build tool."""
    found = {one.metadata["Name"].lower().replace("_", "-"): one.version
             for one in distributions(path=[str(edge_image.packages)])}  # fmt: skip
    version = found.pop("messenger")
    assert version
    assert found == locked("runtime", "live")
    assert not found.keys() & (BUILD_TOOLS - locked("runtime").keys())


def test_the_environment_holds_one_service(edge_image: Environment) -> None:
    """An image has its own service with its files, the mesh, and the code generated from the protos."""
    present = {name for name in services.SERVICES if (edge_image.packages / name).exists()}
    assert present == {"edge"}
    assert (edge_image.packages / "edge/web/index.html").exists()
    assert (edge_image.packages / "messenger/aggregator/v1/aggregator_pb2.py").exists()
    assert (edge_image.packages / "messenger/descriptors.binpb").exists()
    assert not (edge_image.source / "dbapi").exists()


def test_the_environment_starts_the_service(edge_image: Environment) -> None:
    """The service imports whole, and says which settings it lacks."""
    result = edge_image.run("-m", "edge")
    assert result.returncode == 2
    assert "REDIS_URLS" in result.stderr


def test_the_environment_migrates(edge_image: Environment) -> None:
    """The migration's command is in every image."""
    result = edge_image.run("-m", "mesh", "migrate")
    assert result.returncode == 2
    assert "MONGO_SHARDS" in result.stderr


def test_front_configuration(tmp_path: Path) -> None:
    """NGINX takes the front's configuration."""
    text = (ROOT / "deploy/components/front/nginx.conf").read_text()
    path = tmp_path / "nginx.conf"
    path.write_text(text.replace("edge:", "127.0.0.1:").replace("/tmp/", f"{tmp_path}/"))  # noqa: S108
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert nginx, "nginx is missing; make setup installs it"
    command = [nginx, "-t", "-p", str(tmp_path), "-c", str(path), "-e", "stderr"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stderr

"""skaffold.yaml against its schema, the services and the files that it names."""

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from deploy import services
from tests.deploy.manifests import ROOT, Manifests

SCHEMA = ROOT / "../shared/data/skaffold-v4beta13.schema.json"
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
PROFILES = {profile["name"]: profile for profile in CONFIG["profiles"]}

needs_skaffold = pytest.mark.skipif(not shutil.which("skaffold"), reason="there is no skaffold binary")


def artifacts(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A configuration's artifacts by their images."""
    return {one["image"]: one for one in part["build"]["artifacts"]}


def test_schema() -> None:
    """It is what skaffold's own schema asks for; without the schema, at least of that version."""
    assert CONFIG["apiVersion"] == "skaffold/v4beta13"
    if SCHEMA.exists():
        jsonschema.validate(CONFIG, json.loads(SCHEMA.read_text()))


def test_profiles() -> None:
    """There is a profile for each way of working."""
    assert set(PROFILES) == {"dev", "debug", "integration", "prod"}


@pytest.mark.parametrize("name", ["", "integration", "prod"])
def test_one_artifact_a_service(name: str) -> None:
    """Every service is an artifact of the one Dockerfile; the contract's suite is one where it runs."""
    found = artifacts(PROFILES[name] if name else CONFIG)
    expected = {f"messenger-{service}": service for service in services.SERVICES}
    if name == "integration":
        expected["messenger-contract"] = "edge"
    assert {image: one["docker"]["buildArgs"]["SERVICE"] for image, one in found.items()} == expected
    stages = (ROOT / "Dockerfile").read_text()
    assert all(f"AS {one['docker']['target']}\n" in stages for one in found.values())


@pytest.mark.parametrize("service", services.SERVICES)
def test_changes_are_synced(service: str) -> None:
    """A service's own files and the mesh's are copied where the live component looks for them."""
    rules = artifacts(CONFIG)[f"messenger-{service}"]["sync"]["manual"]
    assert {rule["dest"] for rule in rules} == {"/live"}
    assert {rule["src"] for rule in rules} >= {f"{service}/**/*.py", "mesh/**/*.py"}
    live = (ROOT / "deploy/components/live/live.yaml").read_text()
    assert "value: /live" in live


def test_named_files_are_there() -> None:
    """Overlays and the verification's Job exist, and the Job is of the container that is verified."""
    paths = [
        path for part in (CONFIG, *PROFILES.values()) for path in part["manifests"]["kustomize"]["paths"]
    ]
    (verify,) = PROFILES["integration"]["verify"]
    job = verify["executionMode"]["kubernetesCluster"]["jobManifestPath"]
    assert all((ROOT / path / "kustomization.yaml").exists() for path in paths)
    container = yaml.safe_load((ROOT / job).read_text())["spec"]["template"]["spec"]["containers"][0]
    assert (container["name"], container["image"]) == (
        verify["container"]["name"],
        verify["container"]["image"],
    )


@pytest.mark.parametrize("name", ["dev", "debug", "integration"])
def test_forwarded_ports(overlay: Callable[[str], Manifests], name: str) -> None:
    """Ports are forwarded from what the overlay has and what listens there, each to a port of its own."""
    manifests = overlay(name)
    forwards = PROFILES[name].get("portForward", CONFIG["portForward"])
    assert forwards
    for one in forwards:
        found = manifests.get(one["resourceType"].title(), one["resourceName"])
        ports = (
            {port["port"] for port in found["spec"]["ports"]}
            if one["resourceType"] == "service"
            else set(manifests.pods()[one["resourceName"]].ports.values())
        )
        assert one["port"] in ports, one
    assert len({one["localPort"] for one in forwards}) == len(forwards)


@needs_skaffold
@pytest.mark.parametrize("profile", PROFILES)
def test_render(profile: str) -> None:
    """Every profile is rendered with its images' tags, without a cluster and without building."""
    command = ["skaffold", "render", "--offline", "--digest-source=tag", "--profile", profile]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stderr
    assert all(f"image: messenger-{service}:" in result.stdout for service in services.SERVICES)


@needs_skaffold
def test_diagnose() -> None:
    """No problem is diagnosed."""
    command = ["skaffold", "diagnose", "--yaml-only"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stderr

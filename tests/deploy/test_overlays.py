"""Every overlay is built by kustomize and is what Kubernetes takes."""

import copy
import json
from collections.abc import Callable

import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions

from tests.deploy.manifests import OVERLAYS, Manifests, environment

NEWEST = tuple(dict.fromkeys(all_versions()))[-2:]
# Kinds of KEDA, Istio and Linkerd, which Kubernetes has no schema of.
EXTENSIONS = ("keda.sh/", "security.istio.io/", "policy.linkerd.io/")

Overlay = Callable[[str], Manifests]


@pytest.fixture(scope="module")
def seen() -> set[tuple[str, str]]:
    """Objects that are the same in several overlays need not be looked at again."""
    return set()


@pytest.mark.parametrize("version", NEWEST)
@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_takes_every_object(
    overlay: Overlay, name: str, version: str, seen: set[tuple[str, str]]
) -> None:
    """Each object has only known fields of the right types, for the two newest versions of Kubernetes."""
    for one in overlay(name).objects:
        text = json.dumps(one)
        if not one["apiVersion"].startswith(EXTENSIONS) and (text, version) not in seen:
            kubernetes_validate.validate(one, version, strict=True)
            seen.add((text, version))


def test_the_validation_sees_a_misspelt_field(overlay: Overlay) -> None:
    """The validation is strict: a field that Kubernetes would drop silently is an error."""
    deployment = copy.deepcopy(overlay("prod").get("Deployment", "edge"))
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(deployment, NEWEST[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_is_in_one_namespace(overlay: Overlay, name: str) -> None:
    """Whatever has a namespace is in ours, also what components bring."""
    names = {one["metadata"].get("namespace") for one in overlay(name).objects if one["kind"] != "Namespace"}
    assert names == {"messenger"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_references_lead_somewhere(overlay: Overlay, name: str) -> None:
    """ConfigMaps, ServiceAccounts and claims that pods name are in the overlay; Secrets may be somebody's."""
    manifests = overlay(name)
    for pod in manifests.pods().values():
        sources = [source for one in pod.spec["containers"] for source in one.get("envFrom", [])]
        maps = [source["configMapRef"]["name"] for source in sources if "configMapRef" in source]
        maps += [one["configMap"]["name"] for one in pod.spec.get("volumes", []) if "configMap" in one]
        for each in maps:
            manifests.get("ConfigMap", each)
        if account := pod.spec.get("serviceAccountName"):
            manifests.get("ServiceAccount", account)


def test_the_overlay_of_a_team(overlay: Overlay) -> None:
    """The teams' example builds upon production, is what Kubernetes takes, and mounts what it names."""
    manifests = overlay("../../tests/teams/overlay")
    edge = manifests.get("Deployment", "edge")
    for one in (edge, *manifests.all("NetworkPolicy")):
        kubernetes_validate.validate(one, NEWEST[-1], strict=True)
    told = dict(environment(manifests, manifests.pods()["edge"]))
    mounts = {one["name"]: one["mountPath"] for one in manifests.pods()["edge"].container["volumeMounts"]}
    assert told["TEAM_PROTOS"] == f"{mounts['teams']}/deals.binpb"
    assert told["TEAM_SERVICES"].startswith("shop.deals.v1.DealsService=dns:///deals.")


@pytest.mark.parametrize("name", ["prod", "istio", "linkerd"])
def test_production_holds_no_secret(overlay: Overlay, name: str) -> None:
    """In production Secrets are only referenced, and no server is inside."""
    manifests = overlay(name)
    assert not manifests.all("Secret")
    assert not manifests.all("StatefulSet")

"""Kubernetes objects as plain data: finding them, their pods, and what NetworkPolicies let through."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("debug", "dev", "integration", "istio", "linkerd", "prod")
WORKLOADS = ("Deployment", "Job", "StatefulSet")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A workload's pods.

    Attributes:
        name: of the workload.
        labels: of the pods.
        spec: PodSpec.
    """

    name: str
    labels: dict[str, str]
    spec: Object

    @property
    def container(self) -> Object:
        """The first container."""
        first: Object = self.spec["containers"][0]
        return first

    @property
    def ports(self) -> dict[str, int]:
        """Its container's ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}


STRANGER = Pod(name="stranger", labels={}, spec={})


class Manifests:
    """What one overlay applies."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def all(self, kind: str) -> list[Object]:
        """Every object of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def get(self, kind: str, name: str) -> Object:
        """The object of that kind and name; a generated name counts without its hash."""
        found = [one for one in self.all(kind) if _is(one["metadata"]["name"], name)]
        assert len(found) == 1, f"{len(found)} objects are {kind} {name}"
        return found[0]

    def pods(self) -> dict[str, Pod]:
        """The pods of every workload, by its name."""
        found = {}
        for one in self.objects:
            if one["kind"] in WORKLOADS:
                template, name = one["spec"]["template"], one["metadata"]["name"]
                found[name] = Pod(name=name, labels=template["metadata"]["labels"], spec=template["spec"])
        return found

    def edges(self, *proxied: int) -> set[tuple[str, str, int]]:
        """Who may open a connection to whom, on which of its ports, by the NetworkPolicies.

        Args:
            proxied: ports of every pod that its container does not name: a sidecar's.
        """
        pods, policies = list(self.pods().values()), self.all("NetworkPolicy")
        return {
            (source.name, target.name, port)
            for source in pods
            for target in pods
            for port in (*target.ports.values(), *proxied)
            if _passes(policies, "Egress", source, target, port)
            and _passes(policies, "Ingress", target, source, port)
        }

    def open_to_strangers(self) -> set[tuple[str, int]]:
        """The ports that any pod of the cluster may reach, also of another namespace."""
        policies = self.all("NetworkPolicy")
        return {
            (pod.name, port)
            for pod in self.pods().values()
            for port in pod.ports.values()
            if _passes(policies, "Ingress", pod, STRANGER, port)
        }

    def open_to_namespace(self, name: str) -> set[tuple[str, int]]:
        """The ports that the pods of another namespace may reach."""
        wanted = {"matchLabels": {"kubernetes.io/metadata.name": name}}
        return {
            (pod.name, port["port"])
            for policy in self.all("NetworkPolicy")
            for pod in self.pods().values()
            if _selects(policy["spec"]["podSelector"], pod)
            for rule in policy["spec"].get("ingress") or []
            if any(peer.get("namespaceSelector") == wanted for peer in rule.get("from", []))
            for port in rule["ports"]
        }

    def may_call_anybody(self) -> set[str]:
        """The pods that may open any connection."""
        policies = self.all("NetworkPolicy")
        return {name for name, pod in self.pods().items() if _passes(policies, "Egress", pod, STRANGER, 443)}


def parse(text: str) -> Manifests:
    """The objects of a YAML stream."""
    return Manifests([one for one in yaml.safe_load_all(text) if one])


def _is(name: str, wanted: str) -> bool:
    return name == wanted or (name.startswith(f"{wanted}-") and len(name) == len(wanted) + 11)


def _passes(policies: list[Object], direction: str, pod: Pod, peer: Pod, port: int) -> bool:
    """Whether the policies that select the pod let its traffic with the peer through; no policy lets all."""
    mine = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], pod)
    ]
    return not mine or any(_allows(spec, direction, peer, port) for spec in mine)


def _allows(spec: Object, direction: str, peer: Pod, port: int) -> bool:
    rules, side = (spec.get("ingress"), "from") if direction == "Ingress" else (spec.get("egress"), "to")
    return any(_allows_peer(rule.get(side), peer) and _allows_port(rule, port) for rule in rules or [])


def _allows_peer(peers: list[Object] | None, peer: Pod) -> bool:
    """Peers of other namespaces and networks are nobody of ours."""
    return peers is None or any(
        set(one) == {"podSelector"} and _selects(one["podSelector"], peer) for one in peers
    )


def _allows_port(rule: Object, port: int) -> bool:
    return "ports" not in rule or any(one["port"] == port for one in rule["ports"])


def _selects(selector: Object, pod: Pod) -> bool:
    labels = selector.get("matchLabels", {}).items() <= pod.labels.items()
    expressions = selector.get("matchExpressions", [])
    assert all(one["operator"] == "Exists" for one in expressions)
    return bool(labels) and all(one["key"] in pod.labels for one in expressions)


def environment(manifests: Manifests, pod: Pod) -> Iterator[tuple[str, str]]:
    """The variables of a pod's container, those that come later winning; a Secret's are `secret:NAME`."""
    for source in pod.container.get("envFrom", []):
        if "configMapRef" in source:
            yield from manifests.get("ConfigMap", source["configMapRef"]["name"])["data"].items()
    for variable in pod.container.get("env", []):
        value = variable.get("value", "")
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["key"] == variable["name"]
            value = f"secret:{reference['name']}"
        yield variable["name"], value

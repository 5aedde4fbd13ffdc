"""Manifests against the code: variables, ports, probes, who may call whom, how a pod goes."""

import base64
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy import generate, services
from mesh.amqp import CHECKED, MESSAGES
from mesh.amqp.settings import QueueSettings
from mesh.server import LIVENESS, Server
from mesh.settings import MongoSettings
from mesh.stack.templates import RABBITMQ_ADVANCED
from tests.deploy.manifests import OVERLAYS, ROOT, Manifests, environment

SERVER_PORTS = {"amqp": 5672, "mongo": 27017, "redis": 6379}
LINKERD_PORT = 4143
SECRET_VALUES = {
    "AMQP_URL": "amqp://broker/",
    "JWT_SECRET": "s" * 32,
    "MONGO_SHARDS": "mongodb://shard",
    "REDIS_URLS": "redis://node",
}

Overlay = Callable[[str], Manifests]
every_overlay = pytest.mark.parametrize("name", OVERLAYS)
every_service = pytest.mark.parametrize("service", services.SERVICES)


@every_service
def test_config_maps_are_of_today(service: str) -> None:
    """A setting that came, went or changed its default is in the ConfigMap's file."""
    path = generate.CONFIG / f"{service}.env"
    told = f"{path.relative_to(ROOT)} is not what {service}/settings.py says. Run: python -m deploy.generate"
    assert path.read_text() == generate.render(service), told


@every_service
def test_every_address_has_a_value_on_the_cluster(service: str) -> None:
    """Listeners and required settings have a cluster's value or a Secret; a laptop's would not do."""
    fields = services.SERVICES[service].model_fields
    needed = {name for name, field in fields.items() if field.is_required() or name.endswith("listen")}
    missing = needed - set(services.ON_CLUSTER) - set(services.SECRETS)
    assert not missing, f"Give {missing} a value in deploy/services.py: ON_CLUSTER or SECRETS"


@every_overlay
@every_service
def test_variables_are_the_settings_fields(overlay: Overlay, name: str, service: str) -> None:
    """A container has exactly its settings' variables, secrets from their Secrets, and accepts them all."""
    manifests = overlay(name)
    variables = dict(environment(manifests, manifests.pods()[service]))
    variables.pop("PYTHONPATH", None)  # live code
    kind = services.SERVICES[service]
    assert set(variables) == {field.upper() for field in kind.model_fields}
    secret = {key: value for key, value in variables.items() if value.startswith("secret:")}
    assert secret == {key: f"secret:{value}" for key, value in services.secrets(service).items()}
    values: dict[str, Any] = variables | {key: SECRET_VALUES[key] for key in secret}
    kind(**{key.lower(): value for key, value in values.items() if value})


@every_service
def test_ports_are_the_listeners(overlay: Overlay, service: str) -> None:
    """A container's ports are those that its settings listen on, by their names."""
    assert overlay("prod").pods()[service].ports == services.ports(service)


@pytest.mark.parametrize("name", ["integration", "prod", "istio", "linkerd"])
@every_service
def test_probes(overlay: Overlay, name: str, service: str) -> None:
    """Startup and liveness ask whether the loop turns, readiness whether it can serve; all over gRPC."""
    manifests = overlay(name)
    pod = manifests.pods()[service]
    listeners = dict(environment(manifests, pod))
    address = listeners["PLAIN_HEALTH"] or listeners["LISTEN"]
    port = int(address.rpartition(":")[2])
    assert port in pod.ports.values()
    assert pod.container["livenessProbe"]["grpc"] == {"port": port, "service": LIVENESS}
    assert pod.container["startupProbe"]["grpc"] == {"port": port, "service": LIVENESS}
    assert pod.container["readinessProbe"]["grpc"] == {"port": port}


@every_service
def test_linkerd_lets_the_kubelet_probe(overlay: Overlay, service: str) -> None:
    """Linkerd refuses gRPC probes where it asks for an identity: they go past its proxy, to health alone."""
    manifests = overlay("linkerd")
    pod = manifests.pods()[service]
    skipped = manifests.get("Deployment", service)["spec"]["template"]["metadata"]["annotations"]
    assert skipped["config.linkerd.io/skip-inbound-ports"] == str(pod.ports["health"])
    assert dict(environment(manifests, pod))["PLAIN_HEALTH"] == f"0.0.0.0:{pod.ports['health']}"
    assert pod.ports["health"] not in services.ports(service).values()


async def test_health_tells_liveness_from_readiness() -> None:
    """A process that cannot serve yet is alive, under the name that the probes ask for."""
    server = Server("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            alive = await check(health_pb2.HealthCheckRequest(service=LIVENESS))
            ready = await check(health_pb2.HealthCheckRequest())
    finally:
        await server.stop(0)
    assert alive.status == health_pb2.HealthCheckResponse.SERVING
    assert ready.status == health_pb2.HealthCheckResponse.NOT_SERVING


def expected_edges(manifests: Manifests) -> set[tuple[str, str, int]]:
    """Who calls whom by the services' settings, among those that are there, and the servers' own."""
    pods = manifests.pods()
    servers = {kind: {n for n, pod in pods.items() if pod.labels.get(f"messenger/{kind}") == "server"}
               for kind in SERVER_PORTS}  # fmt: skip
    uses = {service: services.servers(service) for service in services.SERVICES}
    uses |= {"migrate": {"amqp", "mongo"}, "mongo-initiate": {"mongo"}}
    edges = {(caller, callee, services.GRPC_PORT)
             for caller in services.SERVICES for callee in services.callees(caller)}  # fmt: skip
    for client, kinds in uses.items():
        edges |= {(client, one, SERVER_PORTS[kind]) for kind in kinds for one in servers[kind]}
    edges |= {(one, other, 27017) for one in servers["mongo"] for other in servers["mongo"]}
    edges |= {(one, one, port) for one in servers["amqp"] for port in (4369, 25672)}
    if "front" in pods:
        edges |= {("front", "edge", services.ports("edge")[port]) for port in ("ws", "http")}
    return {edge for edge in edges if edge[0] in pods}


@pytest.mark.parametrize("name", ["dev", "debug", "integration", "prod", "istio"])
def test_network_policies_are_the_edges_of_the_mesh(overlay: Overlay, name: str) -> None:
    """Connections that the policies let through are those that the settings name: none more, none less."""
    manifests = overlay(name)
    assert manifests.edges() == expected_edges(manifests)


def test_linkerd_opens_its_proxies_along_the_same_edges(overlay: Overlay) -> None:
    """Calls may go from proxy to proxy, on Linkerd's own port, between those that call each other only."""
    manifests = overlay("linkerd")
    edges = expected_edges(manifests)
    proxied = {(caller, callee, LINKERD_PORT) for caller, callee, port in edges if port == services.GRPC_PORT}
    assert manifests.edges(LINKERD_PORT) == edges | proxied


@every_overlay
def test_nothing_is_open(overlay: Overlay, name: str) -> None:
    """Strangers reach nobody but the front, and nobody reaches strangers."""
    manifests = overlay(name)
    assert manifests.open_to_strangers() == ({("front", 8000)} if "front" in manifests.pods() else set())
    assert not manifests.may_call_anybody()


@every_overlay
@every_service
def test_prometheus_reaches_every_service(overlay: Overlay, name: str, service: str) -> None:
    """Prometheus' namespace may fetch metrics, under Istio from the port to which the sidecar moves them."""
    manifests = overlay(name)
    port = manifests.pods()[service].ports["metrics"]
    annotations = manifests.get("Deployment", service)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port)
    reached = manifests.open_to_namespace("monitoring")
    assert {(service, port)} | ({(service, 15020)} if name == "istio" else set()) <= reached


@pytest.mark.parametrize("name", ["dev", "prod"])
@every_service
def test_clients_of_servers_say_so(overlay: Overlay, name: str, service: str) -> None:
    """The labels that open the way to servers, inside or outside, are those of the settings."""
    labels = overlay(name).pods()[service].labels
    kinds = {key.removeprefix("messenger/") for key in labels if key.startswith("messenger/")}
    assert kinds == services.servers(service)


def test_called_services_are_headless(overlay: Overlay) -> None:
    """Names of called services resolve to every pod, for the clients' round robin."""
    manifests = overlay("prod")
    for callee in {one for caller in services.SERVICES for one in services.callees(caller)}:
        spec = manifests.get("Service", callee)["spec"]
        assert spec["clusterIP"] == "None"
        assert [port["port"] for port in spec["ports"]] == [services.GRPC_PORT]


def test_linkerd_gets_addresses_to_balance(overlay: Overlay) -> None:
    """Linkerd leaves headless Services alone, so under it none is headless."""
    assert all(one["spec"].get("clusterIP") != "None" for one in overlay("linkerd").all("Service"))


@pytest.mark.parametrize("callee", ["aggregator", "dbapi"])
def test_meshes_admit_the_callers(overlay: Overlay, callee: str) -> None:
    """Istio and Linkerd let in the same callers, by identity, as the NetworkPolicies do."""
    callers = {caller for caller in services.SERVICES if callee in services.callees(caller)}
    for name in ("istio", "linkerd"):
        pods = overlay(name).pods()
        assert all(pods[caller].spec["serviceAccountName"] == caller for caller in callers)
    rules = overlay("istio").get("AuthorizationPolicy", callee)["spec"]["rules"]
    principals = rules[0]["from"][0]["source"]["principals"]
    assert set(principals) == {f"cluster.local/ns/messenger/sa/{caller}" for caller in callers}
    references = overlay("linkerd").get("MeshTLSAuthentication", callee)["spec"]["identityRefs"]
    assert {one["name"] for one in references} == callers


@every_overlay
def test_pods_are_hardened(overlay: Overlay, name: str) -> None:
    """Every pod, servers and Jobs included: not root, nothing writable but volumes, no token, bounded."""
    for pod in overlay(name).pods().values():
        assert pod.spec["securityContext"]["runAsNonRoot"], pod.name
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
        for one in pod.spec["containers"]:
            context = one["securityContext"]
            assert context["readOnlyRootFilesystem"], pod.name
            assert not context["allowPrivilegeEscalation"], pod.name
            assert context["capabilities"] == {"drop": ["ALL"]}, pod.name
            assert one["resources"]["limits"]["memory"], pod.name
            assert one["resources"]["requests"].keys() == {"cpu", "memory"}, pod.name


@every_service
def test_disruption_and_spread(overlay: Overlay, service: str) -> None:
    """A node that is drained takes one pod of a service at a time; pods spread over zones and nodes."""
    manifests = overlay("prod")
    pod = manifests.pods()[service]
    budget = manifests.get("PodDisruptionBudget", service)["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= pod.labels.items()
    keys = [one["topologyKey"] for one in pod.spec["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


@every_service
def test_grace_is_longer_than_the_drain(overlay: Overlay, service: str) -> None:
    """Nobody is killed in the middle: preStop, two hooks and the server's grace fit into the grace period."""
    manifests = overlay("prod")
    pod = manifests.pods()[service]
    drain = float(dict(environment(manifests, pod))["DRAIN_SECONDS"])
    before = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod.spec["terminationGracePeriodSeconds"] > before + 3 * drain


def test_who_is_called_goes_late(overlay: Overlay) -> None:
    """Whoever has callers or clients waits before it refuses, until they know that it goes."""
    pods = overlay("prod").pods()
    called = {one for caller in services.SERVICES for one in services.callees(caller)} | {"edge"}
    assert {name for name in services.SERVICES if "lifecycle" in pods[name].container} == called


def test_scaling(overlay: Overlay) -> None:
    """Edge by connections and slowly down, aggregator and dbapi by CPU, the consumers by their queues."""
    manifests = overlay("prod")
    found = manifests.all("HorizontalPodAutoscaler") + manifests.all("ScaledObject")
    scalers = {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in found}
    assert set(scalers) == set(services.SERVICES)
    assert scalers["edge"]["metrics"][0]["pods"]["metric"]["name"] == "messenger_edge_connections"
    assert scalers["edge"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 1800
    for name in ("aggregator", "dbapi"):
        assert scalers[name]["metrics"][0]["resource"]["name"] == "cpu"
    queues = {name: scalers[name]["triggers"][0]["metadata"]["queueName"] for name in ("antispam", "dbstore")}
    assert queues == {"antispam": MESSAGES, "dbstore": CHECKED}


def test_ingress(overlay: Overlay) -> None:
    """Sockets go to the WebSocket listener and stay open for an hour of silence; the rest goes to HTTP."""
    ingress = overlay("prod").get("Ingress", "messenger")
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert {one["path"]: one["backend"]["service"]["port"]["name"] for one in paths} == {
        "/ws": "ws",
        "/": "http",
    }
    notes = ingress["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert notes["nginx.org/proxy-read-timeout"] == "1h"
    assert notes["nginx.org/websocket-services"] == "edge"


@every_overlay
def test_every_overlay_migrates(overlay: Overlay, name: str) -> None:
    """A Job lays indexes and queues, on the servers and with the queues' numbers that dbapi has."""
    manifests = overlay(name)
    assert manifests.get("Job", "migrate")
    job, dbapi = manifests.pods()["migrate"], manifests.pods()["dbapi"]
    assert job.container["command"] == ["python", "-m", "mesh", "migrate"]
    told, theirs = dict(environment(manifests, job)), dict(environment(manifests, dbapi))
    for field in (*MongoSettings.model_fields, *QueueSettings.model_fields):
        assert told[field.upper()] == theirs[field.upper()]


@pytest.mark.parametrize(("name", "members"), [("dev", 1), ("integration", 3)])
def test_servers_inside(overlay: Overlay, name: str, members: int) -> None:
    """Eight shards and a broker, of one member or three, under the names that the Secrets give."""
    manifests = overlay(name)
    sets = {one["metadata"]["name"]: one["spec"]["replicas"] for one in manifests.all("StatefulSet")}
    assert sets == {f"mongo-{shard}": members for shard in range(8)} | {"rabbitmq": members, "redis": 2}
    secret = manifests.get("Secret", "messenger-mongo")
    for shard, uri in enumerate(_decoded(secret, "MONGO_SHARDS").split()):
        hosts = [f"mongo-{shard}-{member}.mongo-{shard}:27017" for member in range(members)]
        assert uri == f"mongodb://{','.join(hosts)}/?replicaSet=shard{shard}"
    assert "mongo-initiate" in manifests.pods()
    # All nodes find each other, and queues that are older than a node get a member there.
    settings = dict(
        line.split(" = ")
        for line in manifests.get("ConfigMap", "rabbitmq-config")["data"]["rabbitmq.conf"].splitlines()
        if not line.startswith("#")
    )
    nodes = [value for key, value in settings.items() if "classic_config.nodes." in key]
    assert nodes == [f"rabbit@rabbitmq-{member}.rabbitmq" for member in range(members) if members > 1]
    wanted = settings.get("quorum_queue.continuous_membership_reconciliation.target_group_size", "1")
    assert wanted == str(members)
    # Retries go on within seconds where a queue's leader was lost, as in the local stack.
    assert manifests.get("ConfigMap", "rabbitmq-config")["data"]["advanced.config"] == RABBITMQ_ADVANCED
    broker = manifests.pods()["rabbitmq"].container
    mounts = {mount.get("subPath"): mount["mountPath"] for mount in broker["volumeMounts"]}
    assert mounts["advanced.config"] == "/etc/rabbitmq/advanced.config"


def _decoded(secret: dict[str, dict[str, str]], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode().strip()

"""The table of programs: settings in; commands, environments, ports and readiness checks out. No I/O.

A new service is a row in `_services`. Who starts the programs is stack.py, with supervisord (supervisor.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from mesh.stack import ready, templates
from mesh.stack.binaries import Binaries
from mesh.stack.ca import OPERATOR, Authority
from mesh.stack.settings import Secrets, StackSettings

LOOPBACK = "127.0.0.1"
REDIS_NODES = 2
EDGES = 2

ENGINE = "log=(file_max=16MB),eviction_dirty_target=25,eviction_dirty_trigger=50"
"""WiredTiger's: journals of 16 MB, laid beforehand, since a file that grows takes longer to flush; and a
small cache that does not write out pages which change again at once."""

# Offsets from STACK_PORT_BASE, with room for members and nodes to come.
# The last port of the block (ports.BLOCK) is nobody's: it is the sign that a block is given away.
MONGO_PORT = 0  # and one more a shard, and MEMBER_STRIDE more a member
MEMBER_STRIDE = 10
REDIS_PORT = 30  # and one more a node
RABBITMQ_PORT = 40  # for clients, then for other nodes; and BROKER_STRIDE more a node
BROKER_STRIDE = 2
EPMD_PORT = 49
SERVICE_PORTS = {"dbapi": 50, "antispam": 51, "dbstore": 52, "aggregator": 53}
REPLICA_STRIDE = 20
EDGE_PORT = 60  # gRPC health, WebSocket, HTTP; and EDGE_STRIDE more an edge
EDGE_STRIDE = 3
EDGE_METRICS_PORT = 66  # and one more an edge
METRICS_STEP = 4  # from a service's port to its metrics'

USER = "messenger"
"""The services' user on every server."""

NEEDS = {
    "dbapi": ("MONGO_SHARDS", "AMQP_URL"),
    "antispam": ("AMQP_URL",),
    "dbstore": ("MONGO_SHARDS", "AMQP_URL", "REDIS_URLS"),
    "aggregator": ("REDIS_URLS",),
    "edge": ("REDIS_URLS", "JWT_SECRET"),
}
"""What each service is told of what holds a password; no other program is."""


class Stage(IntEnum):
    """When a program starts: a stage begins when all of the one before is ready, and stops before it."""

    NAMES = 1
    SERVERS = 2
    SERVICES = 3
    PROXY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A row of the table.

    Args:
        name: its name for people and for the supervisor.
        stage: when it starts.
        command: program and arguments.
        ports: what it listens on, on loopback.
        check: says whether it does its work.
        env: what its environment has beyond the plan's.
        move: the setting that moves its ports.
    """

    name: str
    stage: Stage
    command: tuple[str, ...]
    ports: tuple[int, ...]
    check: ready.Check
    env: Mapping[str, str] = field(default_factory=dict)
    move: str = "STACK_PORT_BASE"

    @property
    def address(self) -> str:
        """Where it is reached first of all."""
        return f"{LOOPBACK}:{self.ports[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that the stack starts.

    Args:
        programs: the table, in the order of the stages.
        env: the environment that all programs share; clients and tests use it, too.
        files: configuration to write before the start, by path.
    """

    programs: tuple[Program, ...]
    env: Mapping[str, str]
    files: Mapping[Path, str]


def make(settings: StackSettings, binaries: Binaries, secrets: Secrets) -> Plan:
    """The plan of a stack; servers that have an address in the settings are left out.

    Args:
        settings: ports, directory, existing servers.
        binaries: the programs of this machine.
        secrets: of the stack.
    """
    full = environment(settings, secrets)
    edges = _edges(settings, binaries, full)
    programs = [
        *(() if settings.mongo_shards else _mongods(settings, binaries, secrets)),
        *(() if settings.redis_urls else _redis_nodes(settings, binaries, secrets)),
        *(() if settings.amqp_url else (_epmd(settings, binaries), *_brokers(settings, binaries, secrets))),
        *_services(settings, binaries, full),
        *edges,
        _nginx(settings, binaries),
    ]
    detour = settings.stack_detour
    reached = [(edge.ports[1] + detour, edge.ports[2] + detour) for edge in edges]
    secret = {name for needs in NEEDS.values() for name in needs}
    return Plan(
        programs=tuple(sorted(programs, key=lambda program: program.stage)),
        env={name: value for name, value in full.items() if name not in secret},
        files={
            home(settings, "nginx") / "nginx.conf": templates.nginx(settings.messenger_port, reached),
            _mongo_key(settings): secrets.mongo_key,
            **{
                _redis_conf(settings, node): templates.redis(USER, secrets.redis)
                for node in range(REDIS_NODES)
            },
            **_broker_files(settings, secrets),
        },
    )


def authority(settings: StackSettings) -> Authority:
    """The CA of this stack."""
    return Authority(settings.directory / "tls")


def assertion_keys(settings: StackSettings) -> tuple[Path, Path]:
    """The edges' key for assertions, and the JWKS by which the others know it."""
    return settings.directory / "tls" / "assertion.key", settings.directory / "tls" / "assertions.json"


def environment(settings: StackSettings, secrets: Secrets) -> dict[str, str]:
    """What clients and tests need to reach the parts of this stack; services get their share of it."""
    shards = settings.mongo_shards or tuple(
        f"mongodb://{USER}:{secrets.mongo}@{','.join(_members(settings, n))}/"
        f"?replicaSet=shard{n}&authSource=admin"
        for n in range(settings.stack_shards)
    )
    redis = settings.redis_urls or tuple(
        f"redis://{USER}:{secrets.redis}@{_reached(settings, REDIS_PORT + n)}" for n in range(REDIS_NODES)
    )
    brokers = (RABBITMQ_PORT + n * BROKER_STRIDE for n in range(settings.stack_brokers))
    return {
        "MONGO_SHARDS": " ".join(shards),
        "MAILBOX_SHARDS": str(len(shards)),
        "REDIS_URLS": " ".join(redis),
        "AMQP_URL": settings.amqp_url
        or " ".join(f"amqp://{USER}:{secrets.rabbitmq}@{_reached(settings, broker)}/" for broker in brokers),
        **{f"{name.upper()}_ADDRESS": _target(settings, offset) for name, offset in SERVICE_PORTS.items()},
        "JWT_SECRET": secrets.jwt,
        "PUBLIC_URL": settings.messenger_url,
        "ASSERTION_KEYS": str(assertion_keys(settings)[1]),
        **authority(settings).environment(OPERATOR),
    }


def _reached(settings: StackSettings, offset: int) -> str:
    """The address at which others reach what listens at this offset."""
    return f"{LOOPBACK}:{settings.stack_port_base + offset + settings.stack_detour}"


def _members(settings: StackSettings, shard: int) -> tuple[str, ...]:
    """Addresses of a shard's members."""
    return tuple(
        _reached(settings, MONGO_PORT + shard + member * MEMBER_STRIDE)
        for member in range(settings.stack_members)
    )


def _target(settings: StackSettings, offset: int) -> str:
    """The gRPC target of a service's processes."""
    addresses = [_reached(settings, offset + n * REPLICA_STRIDE) for n in range(settings.stack_replicas)]
    return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"


def home(settings: StackSettings, name: str) -> Path:
    """Where a program keeps its data."""
    return settings.directory / "data" / name


def _mongo_key(settings: StackSettings) -> Path:
    return settings.directory / "data" / "mongo.key"


def _mongods(settings: StackSettings, binaries: Binaries, secrets: Secrets) -> list[Program]:
    return [
        _mongod(settings, binaries, secrets, shard, member)
        for shard in range(settings.stack_shards)
        for member in range(settings.stack_members)
    ]


def _mongod(
    settings: StackSettings, binaries: Binaries, secrets: Secrets, shard: int, member: int
) -> Program:
    alone = settings.stack_members == 1
    name = f"mongo-{shard}" if alone else f"mongo-{shard}-{member}"
    port = settings.stack_port_base + MONGO_PORT + shard + member * MEMBER_STRIDE
    command = (
        binaries.mongod, "--replSet", f"shard{shard}", "--port", str(port), "--bind_ip", LOOPBACK,
        "--nounixsocket", "--dbpath", str(home(settings, name)), "--quiet",
        "--keyFile", str(_mongo_key(settings)),
        # The password is long and random: stretching it would add nothing but time.
        "--setParameter", "authenticationMechanisms=SCRAM-SHA-256",
        "--setParameter", "scramSHA256IterationCount=5000",
        # Small: eight of them share a laptop.
        "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64",
        "--wiredTigerEngineConfigString", ENGINE,
        # What must last waits for a flush of its own. This one is for the rest, half an idle mongod's time.
        "--journalCommitInterval", "500",
        "--setParameter", "diagnosticDataCollectionEnabled=false",
        # Nobody reads the past. Else a chat keeps the versions of its last five minutes, one a message.
        "--setParameter", "minSnapshotHistoryWindowInSeconds=0",
        # How long a stopping primary waits for its clients and its successor; alone it has none.
        "--setParameter", f"shutdownTimeoutMillisForSignaledShutdown={100 if alone else 2000}",
    )  # fmt: skip
    founds = _members(settings, shard) if member == 0 else ()
    check = ready.MongoMember(
        port=port, replica_set=f"shard{shard}", founds=founds, user=USER, password=secrets.mongo
    )
    return Program(name=name, stage=Stage.SERVERS, command=command, ports=(port,), check=check)


def _redis_conf(settings: StackSettings, node: int) -> Path:
    return settings.directory / "data" / f"redis-{node}.conf"


def _redis_nodes(settings: StackSettings, binaries: Binaries, secrets: Secrets) -> list[Program]:
    return [_redis(settings, binaries, secrets, node) for node in range(REDIS_NODES)]


def _redis(settings: StackSettings, binaries: Binaries, secrets: Secrets, node: int) -> Program:
    name, port = f"redis-{node}", settings.stack_port_base + REDIS_PORT + node
    command = (
        binaries.redis, str(_redis_conf(settings, node)), "--port", str(port), "--bind", LOOPBACK,
        "--dir", str(home(settings, name)),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
    )  # fmt: skip
    check = ready.RedisPong(url=f"redis://{USER}:{secrets.redis}@{LOOPBACK}:{port}")
    return Program(name=name, stage=Stage.SERVERS, command=command, ports=(port,), check=check)


def _epmd(settings: StackSettings, binaries: Binaries) -> Program:
    """Erlang's name server as a program of its own: else a node leaves one behind."""
    port = settings.stack_port_base + EPMD_PORT
    return Program(
        name="epmd",
        stage=Stage.NAMES,
        command=(binaries.epmd, "-port", str(port), "-address", LOOPBACK),
        ports=(port,),
        check=ready.PortOpen(port=port),
        env={"HOME": str(home(settings, "rabbitmq"))},
    )


def _brokers(settings: StackSettings, binaries: Binaries, secrets: Secrets) -> list[Program]:
    return [_broker(settings, binaries, secrets, number) for number in range(settings.stack_brokers)]


def _broker_name(number: int) -> str:
    """Of the program, and of its Erlang node before the @."""
    return "rabbitmq" if number == 0 else f"rabbitmq-{number + 1}"


def _node_name(number: int) -> str:
    return "messenger@localhost" if number == 0 else f"messenger-{number + 1}@localhost"


def _broker_files(settings: StackSettings, secrets: Secrets) -> dict[Path, str]:
    """What all nodes share: configuration, and in a cluster the cookie by which they trust each other."""
    directory, count = home(settings, "rabbitmq"), settings.stack_brokers
    definitions = directory / "definitions.json"
    files = {
        directory / "rabbitmq.conf": templates.rabbitmq(map(_node_name, range(count)), str(definitions)),
        directory / "advanced.config": templates.RABBITMQ_ADVANCED,
        directory / "enabled_plugins": "[].\n",
        definitions: templates.rabbitmq_definitions(USER, secrets.rabbitmq),
    }
    if count > 1:
        files[directory / ".erlang.cookie"] = secrets.erlang
    return files


def _broker(settings: StackSettings, binaries: Binaries, secrets: Secrets, number: int) -> Program:
    name, shared = _broker_name(number), home(settings, "rabbitmq")
    directory = home(settings, name)
    port = settings.stack_port_base + RABBITMQ_PORT + number * BROKER_STRIDE
    env = {
        "ERL_EPMD_PORT": str(settings.stack_port_base + EPMD_PORT),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_FLAGS": "-start_epmd false",
        "HOME": str(shared),  # Erlang's cookie is kept there
        "RABBITMQ_NODENAME": _node_name(number),
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(port + 1),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),  # not the machine's
        "RABBITMQ_CONFIG_FILE": str(shared / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(shared / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(shared / "enabled_plugins"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(directory / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
        " -kernel inet_dist_use_interface {127,0,0,1}",
        "detached": "1",  # the start script then becomes the broker instead of waiting beside it
    }
    return Program(
        name=name,
        stage=Stage.SERVERS,
        command=(binaries.rabbitmq,),
        ports=(port, port + 1),
        check=ready.AmqpOpen(url=f"amqp://{USER}:{secrets.rabbitmq}@{LOOPBACK}:{port}/", port=port),
        env=env,
    )


def _services(settings: StackSettings, binaries: Binaries, full: Mapping[str, str]) -> list[Program]:
    return [
        _service(settings, binaries, full, name, replica)
        for name in SERVICE_PORTS
        for replica in range(settings.stack_replicas)
    ]


def _service(
    settings: StackSettings, binaries: Binaries, full: Mapping[str, str], name: str, replica: int
) -> Program:
    """A gRPC service: `python -m <name>`, told all by its environment."""
    port = settings.stack_port_base + SERVICE_PORTS[name] + replica * REPLICA_STRIDE
    address = f"{LOOPBACK}:{port}"
    return Program(
        name=name if replica == 0 else f"{name}-{replica + 1}",
        stage=Stage.SERVICES,
        command=(binaries.python, "-m", name),
        ports=(port, port + METRICS_STEP),
        check=ready.GrpcServing(target=address, service=name, authority=authority(settings)),
        env={"LISTEN": address, "METRICS_LISTEN": f"{LOOPBACK}:{port + METRICS_STEP}"}
        | _share(settings, full, name),
    )


def _share(settings: StackSettings, full: Mapping[str, str], service: str) -> dict[str, str]:
    """What a service alone is told: its certificate, and the passwords that it needs."""
    return authority(settings).environment(service) | {name: full[name] for name in NEEDS[service]}


def _edges(settings: StackSettings, binaries: Binaries, full: Mapping[str, str]) -> list[Program]:
    return [_edge(settings, binaries, full, number) for number in range(EDGES)]


def _edge(settings: StackSettings, binaries: Binaries, full: Mapping[str, str], number: int) -> Program:
    grpc, websocket, http = (
        settings.stack_port_base + EDGE_PORT + number * EDGE_STRIDE + n for n in range(EDGE_STRIDE)
    )
    metrics = settings.stack_port_base + EDGE_METRICS_PORT + number
    return Program(
        name=f"edge-{number + 1}",
        stage=Stage.SERVICES,
        command=(binaries.python, "-m", "edge"),
        ports=(grpc, websocket, http, metrics),
        check=ready.HttpOk(port=http, path="/readyz"),
        env={
            "LISTEN": f"{LOOPBACK}:{grpc}",
            "WS_LISTEN": f"{LOOPBACK}:{websocket}",
            "HTTP_LISTEN": f"{LOOPBACK}:{http}",
            "DEV_SIGN_IN": "true",
            "METRICS_LISTEN": f"{LOOPBACK}:{metrics}",
            "ASSERTION_SIGNING_KEY": str(assertion_keys(settings)[0]),
            **_share(settings, full, "edge"),
        },
    )


def _nginx(settings: StackSettings, binaries: Binaries) -> Program:
    directory = home(settings, "nginx")
    return Program(
        name="nginx",
        stage=Stage.PROXY,
        command=(binaries.nginx, "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"),
        ports=(settings.messenger_port,),
        check=ready.HttpOk(port=settings.messenger_port, path="/readyz"),
        move="MESSENGER_PORT",
    )

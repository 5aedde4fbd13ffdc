"""The plan of the stack, which is pure: ports, environments, generated configuration."""

import configparser
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.stack import StackSettings, Stage, plan, ports, templates
from mesh.stack.binaries import Binaries
from mesh.stack.settings import Secrets
from mesh.stack.supervisor import render

BINARIES = Binaries(
    python="/bin/python", nginx="/bin/nginx", mongod="/bin/mongod", redis="/bin/redis",
    rabbitmq="/bin/rabbitmq", epmd="/bin/epmd",
)  # fmt: skip


SECRETS = Secrets(jwt="jwt", mongo="m0", mongo_key="key", redis="r0", rabbitmq="q0", erlang="cookie")


@pytest.fixture(autouse=True)
def _no_servers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONGO_SHARDS", "AMQP_URL", "REDIS_URLS", "JWT_SECRET", "STACK_SHARDS"):
        monkeypatch.delenv(name, raising=False)


def make(settings: StackSettings) -> plan.Plan:
    """The plan with made-up programs."""
    return plan.make(settings, BINARIES, SECRETS)


def names(made: plan.Plan) -> list[str]:
    """Names of all programs."""
    return [program.name for program in made.programs]


def test_default_programs() -> None:
    """Eight shards, two Redis nodes, RabbitMQ, every service, two edges and NGINX are in the plan."""
    assert names(make(StackSettings())) == [
        "epmd", *(f"mongo-{n}" for n in range(8)), "redis-0", "redis-1", "rabbitmq",
        "dbapi", "antispam", "dbstore", "aggregator", "edge-1", "edge-2", "nginx",
    ]  # fmt: skip


def test_ports_are_distinct_and_in_the_block() -> None:
    """No two programs share a port, and all but NGINX stay inside the block, whose last port stays free."""
    made = make(StackSettings(stack_port_base=30000, messenger_port=9000))
    used = list(itertools.chain.from_iterable(program.ports for program in made.programs))
    assert len(set(used)) == len(used)
    used.remove(9000)
    assert all(30000 <= port < 30000 + ports.BLOCK - 1 for port in used)


def test_a_cluster_has_members_nodes_and_replicas() -> None:
    """Sets and clusters of three and two of each service fit in a block; the detour leads to each of them."""
    settings = StackSettings(
        stack_port_base=30000, messenger_port=9000, stack_shards=2, stack_members=3, stack_brokers=3,
        stack_replicas=2, stack_detour=100,
    )  # fmt: skip
    made = make(settings)
    assert names(made) == [
        "epmd", *(f"mongo-{shard}-{member}" for shard in range(2) for member in range(3)),
        "redis-0", "redis-1", "rabbitmq", "rabbitmq-2", "rabbitmq-3",
        *(f"{name}{n}" for name in plan.SERVICE_PORTS for n in ("", "-2")), "edge-1", "edge-2", "nginx",
    ]  # fmt: skip
    used = list(itertools.chain.from_iterable(program.ports for program in made.programs))
    assert len(set(used)) == len(used)
    assert all(30000 <= port < 30000 + ports.BLOCK - 1 for port in used if port != 9000)
    listening = {program.name: program.ports[0] for program in made.programs}
    env = plan.environment(settings, SECRETS)
    assert env["MONGO_SHARDS"].split()[1] == (
        "mongodb://messenger:m0@127.0.0.1:30101,127.0.0.1:30111,127.0.0.1:30121/"
        "?replicaSet=shard1&authSource=admin"
    )
    assert made.env["DBAPI_ADDRESS"] == (
        f"ipv4:127.0.0.1:{listening['dbapi'] + 100},127.0.0.1:{listening['dbapi-2'] + 100}"
    )
    assert len(env["AMQP_URL"].split()) == 3


def test_servers_elsewhere_are_not_started() -> None:
    """Servers named by MONGO_SHARDS, AMQP_URL and REDIS_URLS are used as they are and not started."""
    settings = StackSettings(
        mongo_shards=("mongodb://a", "mongodb://b"), amqp_url="amqp://c", redis_urls=("redis://d",)
    )
    made = make(settings)
    assert {program.stage for program in made.programs} == {Stage.SERVICES, Stage.PROXY}
    env = plan.environment(settings, SECRETS)
    assert env["MONGO_SHARDS"] == "mongodb://a mongodb://b"
    assert env["AMQP_URL"] == "amqp://c"
    assert env["REDIS_URLS"] == "redis://d"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are separated by white space, and an empty variable is none."""
    monkeypatch.setenv("MONGO_SHARDS", " mongodb://a\n mongodb://b ")
    monkeypatch.setenv("AMQP_URL", "")
    settings = StackSettings()
    assert settings.mongo_shards == ("mongodb://a", "mongodb://b")
    assert settings.amqp_url == ""


def test_services_find_each_other() -> None:
    """The address by which others call a service is the one that it listens on."""
    made = make(StackSettings())
    listening = {program.name: program.env.get("LISTEN") for program in made.programs}
    for service in plan.SERVICE_PORTS:
        assert made.env[f"{service.upper()}_ADDRESS"] == listening[service]


def test_supervisor_configuration_has_every_program() -> None:
    """Each program is in its stage's group, none starts by itself, and each dies with supervisord."""
    made = make(StackSettings(stack_dir=Path("/tmp/with space, and 100%")))  # noqa: S108 - nothing is written
    parsed = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parsed.read_string(render(Path("/tmp/with space, and 100%"), made.programs, open_files=1024))  # noqa: S108
    for program in made.programs:
        group = f"group:{program.stage.name.lower()}"
        assert program.name in parsed[group]["programs"].split(",")
        section = parsed[f"program:{program.name}"]
        assert section["autostart"] == "false"
        assert section["command"].startswith("setpriv --pdeathsig TERM -- ")


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    """NGINX itself finds no fault in the configuration that the plan writes."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert nginx is not None
    (tmp_path / "nginx.conf").write_text(templates.nginx(8000, [(1, 2), (3, 4)]))
    command = [nginx, "-t", "-q", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (tested.returncode, tested.stderr) == (0, "")

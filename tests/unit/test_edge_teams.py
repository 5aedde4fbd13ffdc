"""Services of other teams, as the edge's settings name them, and what is wrong with what they name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, text_format
from pydantic import ValidationError

from edge import table
from edge.settings import Settings
from mesh.settings import load
from messenger.common.v1 import options_pb2

NAME = "shop.v1.Service"
ENTRY = f"{NAME}=shop:9000"

SHOP = """
name: "shop.proto" package: "shop.v1" syntax: "proto3" dependency: "messenger/common/v1/options.proto"
message_type { name: "Request" field { name: "inner" number: 1 label: LABEL_OPTIONAL %s } }
message_type { name: "Response" }
service {
  name: "Service"
  method {
    name: "Do" input_type: ".shop.v1.Request" output_type: ".shop.v1.Response"
    options { [messenger.common.v1.jsonrpc] { name: "%s" deadline_ms: 1 criticality: CRITICALITY_CRITICAL } }
  }
}
service {
  name: "Inside" method { name: "Do" input_type: ".shop.v1.Request" output_type: ".shop.v1.Response" }
}
source_code_info { location { path: [6, 0, 2, 0] span: [1, 1, 1] leading_comments: " Does it.\\n" } }
"""


def files(method: str = "shop.do", field: str = "type: TYPE_STRING") -> list[Any]:
    """A descriptor set's files, imports first."""
    options = descriptor_pb2.FileDescriptorProto()
    options_pb2.DESCRIPTOR.CopyToProto(options)
    imported = descriptor_pb2.FileDescriptorProto()
    descriptor_pb2.DESCRIPTOR.CopyToProto(imported)
    shop = text_format.Parse(SHOP % (field, method), descriptor_pb2.FileDescriptorProto())
    return [imported, options, shop]


def written(path: Path, content: Iterable[Any]) -> Path:
    """A descriptor set in a file."""
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=content).SerializeToString())
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A good set."""
    return written(tmp_path / "shop.binpb", files())


def settings(entries: str, *sets: Path) -> Settings:
    """An edge's settings."""
    return Settings(
        aggregator_address="unused",
        dbapi_address="unused",
        redis_urls=("redis://unused",),
        jwt_secret="x" * 32,
        team_services=entries,  # type: ignore[arg-type]  # as in the environment
        team_protos=tuple(map(str, sets)),
    )


def test_a_team_has_its_methods_in_the_table(shop: Path) -> None:
    """A named service's methods stand beside the edge's own, with its address and its comments."""
    found = settings(ENTRY, shop).teams
    methods = table.methods((*table.OWN, *found.services))
    assert methods["shop.do"].path == f"/{NAME}/Do"
    assert "messages.send" in methods
    assert found.addresses == {NAME: "shop:9000"}
    assert found.described["shop.v1.Service.Do"] == "Does it."


def test_without_a_setting_there_is_nothing() -> None:
    """An edge that is told of no team offers its own methods."""
    assert settings("").teams.services == ()


def test_two_teams_do_not_meet(tmp_path: Path, shop: Path) -> None:
    """Sets that hold files of one name with other content are both good."""
    other = files("other.do")
    other[-1].package = "other.v1"
    for method in (method for service in other[-1].service for method in service.method):
        method.input_type, method.output_type = ".other.v1.Request", ".other.v1.Response"
    found = settings(f"{ENTRY} other.v1.Service=other:1", shop, written(tmp_path / "other.binpb", other))
    assert {"shop.do", "other.do"} <= set(table.methods(found.teams.services))


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ("shop.v1.Service", "'shop.v1.Service' is not package.Service=address"),
        ("=shop:1", "'=shop:1' is not package.Service=address"),
        (f"{ENTRY} {NAME}=shop:2", f"{NAME} stands there twice"),
        ("shop.v1.Servce=shop:1", "no file of TEAM_PROTOS has shop.v1.Servce. .*: shop.v1.Inside, shop"),
        ("shop.v1.Inside=shop:1", "no method of shop.v1.Inside has the option messenger.common.v1.jsonrpc"),
        ("messenger.aggregator.v1.MessengerService=shop:1", "no file of TEAM_PROTOS has messenger"),
    ],
)  # fmt: skip
def test_bad_entries(shop: Path, entries: str, text: str) -> None:
    """Each says what it is, and with what an operator may put it right."""
    with pytest.raises(ValidationError, match=f"TEAM_SERVICES: {text}"):
        settings(entries, shop)


def test_files_that_are_no_sets(tmp_path: Path, shop: Path) -> None:
    """A file that is missing, is something else, lacks its imports, or repeats a service is named."""
    other = tmp_path / "other.binpb"
    with pytest.raises(ValidationError, match=f"TEAM_PROTOS: {other}: No such file"):
        settings(ENTRY, other)
    other.write_text("syntax = 'proto3';")
    with pytest.raises(ValidationError, match=f"TEAM_PROTOS: {other} is no descriptor set"):
        settings(ENTRY, other)
    written(other, files()[-1:])
    with pytest.raises(ValidationError, match=r"shop.proto: .*options.proto.* needs all imports"):
        settings(ENTRY, other)
    written(other, files())
    with pytest.raises(ValidationError, match=f"{other} has {NAME}, as another file has"):
        settings(ENTRY, shop, other)


def test_a_name_of_ours(tmp_path: Path) -> None:
    """A team's method of a name that is taken is refused, naming both."""
    taken = written(tmp_path / "taken.binpb", files("messages.send"))
    with pytest.raises(ValidationError, match=f"{NAME}.Do: messages.send is taken by /messenger"):
        settings(ENTRY, taken)


def test_a_request_that_holds_itself(tmp_path: Path) -> None:
    """What the edge cannot read is refused at the start."""
    nested = files(field='type: TYPE_MESSAGE type_name: ".shop.v1.Request"')
    with pytest.raises(ValidationError, match=r"shop.v1.Request holds itself"):
        settings(ENTRY, written(tmp_path / "nested.binpb", nested))


def test_the_edge_does_not_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a bad entry the process ends with status 2 and the text, before it opens a socket."""
    environment = {
        "AGGREGATOR_ADDRESS": "a:1",
        "DBAPI_ADDRESS": "d:1",
        "REDIS_URLS": "redis://r",
        "JWT_SECRET": "x" * 32,
    }
    for name, value in (environment | {"TEAM_SERVICES": ENTRY}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load(Settings, "edge")
    assert ended.value.code == 2
    assert f"TEAM_SERVICES: no file of TEAM_PROTOS has {NAME}" in capsys.readouterr().err

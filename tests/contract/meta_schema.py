"""Holds an OpenRPC document against the OpenRPC meta-schema, of which openrpc/ has a copy."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

COPIES = Path(__file__).parent / "openrpc"
JSON_SCHEMA = "https://meta.json-schema.tools"


def violations(document: Any) -> list[str]:
    """What is wrong with a document: the place and the rule of each."""
    resource = Resource[Any].from_contents(_load("json-schema.json"), default_specification=DRAFT7)
    registry = Registry[Any]().with_resource(JSON_SCHEMA, resource)
    validator = Draft7Validator(_load("meta-schema.json"), registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def _load(name: str) -> Any:
    return json.loads((COPIES / name).read_text())

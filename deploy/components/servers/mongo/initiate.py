"""Makes replica sets of fresh mongods, one a URI of MONGO_SHARDS, and waits for their primaries.

A Job's script. What is a replica set already is left as it is.
"""

import os
import sys
import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

WAIT_S = float(os.environ.get("INITIATE_WAIT_S", "300"))


def initiate(uri: str) -> None:
    """Makes the URI's hosts its replica set, unless they are one."""
    parsed = parse_uri(uri)
    name, hosts = parsed["options"]["replicaSet"], [f"{host}:{port}" for host, port in parsed["nodelist"]]
    with MongoClient[dict[str, Any]](
        hosts[0], directConnection=True, serverSelectionTimeoutMS=2000
    ) as member:
        if "setName" in member.admin.command("hello"):
            return
        members = [{"_id": index, "host": host} for index, host in enumerate(hosts)]
        config = {"_id": name, "members": members, "settings": {"electionTimeoutMillis": 5000}}
        member.admin.command("replSetInitiate", config)


def await_primary(uri: str) -> None:
    """Returns when the replica set takes writes."""
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=2000) as client:
        client.admin.command("ping")


def main() -> None:
    """Goes over the shards until all are up, or the time is over."""
    deadline = time.monotonic() + WAIT_S
    for uri in os.environ["MONGO_SHARDS"].split():
        while True:
            try:
                initiate(uri)
                await_primary(uri)
                break
            except PyMongoError as error:  # members are still starting, or electing
                if time.monotonic() > deadline:
                    sys.exit(f"{uri}: {error}")
                time.sleep(1)
        sys.stdout.write(f"{uri}: has a primary\n")


main()

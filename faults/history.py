"""The history of a run: one JSON object a line, written as things happen and read back for the checker.

| kind         | fields                                                                              |
| ------------ | ----------------------------------------------------------------------------------- |
| `call`       | user, device, link, number, method, params, begin, end, outcome, answer              |
| `event`      | user, device, at, method, params                                                    |
| `connected`  | user, device, at, recovered                                                         |
| `fault`      | name, target, begin, healed                                                         |
| `recovered`  | at: everybody reached everybody again                                               |
| `phase`      | name, at                                                                            |
| `unfinished` | user: had no definite answer to a call when all was healed for long                  |
| `fresh`      | user, chats, messages: what a new device sees at the very end                       |
| `parked`     | bodies (cause, message_ids), queues: what RabbitMQ holds at the very end             |
| `audited`    | findings: of the operator's own audit at the very end                                |

A call's link is the number of the device's connection; on one link calls went out in the order of their
numbers, which are 0 where a connection keeps none.

Times are seconds since the run began. An outcome is `ok` (answer: the result), `error` (answer: the error) or
`unknown`: no answer came, and the call may have had its effect.
"""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Recorder:
    """Writes a history.

    Args:
        path: the file; a previous one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._began, 4)

    def write(self, kind: str, **fields: Any) -> None:
        """Adds a record."""
        self._file.write(json.dumps({"kind": kind, **fields}, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Ends the history."""
        self._file.close()


def read(path: Path) -> dict[str, list[Record]]:
    """The records of a history by their kind, each in the order of writing."""
    records: dict[str, list[Record]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            records[record["kind"]].append(record)
    return records

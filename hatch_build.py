"""The package's build hook: generated code goes into the wheel beside our own."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GeneratedCode(BuildHookInterface[Any]):
    """Builds protos/gen and adds it to the wheel at its root."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel (`version` "standard") or an editable one is made."""
        gen = Path(self.root, "protos", "gen")
        if version == "editable" and gen.exists():
            return
        runpy.run_path(str(Path(self.root, "protos", "build.py")), run_name="__main__")
        if version != "editable":
            build_data["force_include"].update({str(gen / "messenger"): "messenger", str(gen / "buf"): "buf"})

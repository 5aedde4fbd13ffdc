"""Writes the ConfigMaps' files, base/config/SERVICE.env, from the settings: python -m deploy.generate."""

import sys
from pathlib import Path

from deploy import services

CONFIG = Path(__file__).parent / "base" / "config"
HEADER = (
    "# Every setting but the secrets, as {service}/settings.py has it. Made by: python -m deploy.generate\n"
)


def files() -> dict[Path, str]:
    """The text of each file."""
    return {CONFIG / f"{service}.env": render(service) for service in services.SERVICES}


def render(service: str) -> str:
    """A service's file: each setting's description, name and value on a cluster."""
    described = {
        name.upper(): field.description for name, field in services.SERVICES[service].model_fields.items()
    }
    values = services.environment(service)
    settings = "".join(f"\n# {described[name]}\n{name}={value}\n" for name, value in values.items())
    return HEADER.format(service=service) + settings


def main() -> None:
    """Writes them all."""
    CONFIG.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(Path.cwd())}\n")


if __name__ == "__main__":
    main()

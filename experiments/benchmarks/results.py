"""The JSON beside a benchmark's table."""

import json
import os
import pathlib

from sas_jax.files import atomic, machine


def write_json(
    path: str | os.PathLike, settings: dict[str, object], measured: dict[str, object]
) -> pathlib.Path:
    """Writes what was measured, how, and on what machine under what load.

    settings: the flags that the numbers depend on.
    """
    content = {
        "machine": machine.machine_info() | {"load_average": os.getloadavg()[0]},
        "versions": machine.versions(),
        "settings": settings,
        **measured,
    }
    return atomic.write_text(path, json.dumps(content, indent=1) + "\n")

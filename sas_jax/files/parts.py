"""Long measurements in parts of a fixed size, each kept on disk: a stop loses one."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sas_jax.files.atomic import replacing
from sas_jax.files.places import as_path, fetched


def in_parts(
    folder: str | Path,
    settings: dict[str, Any],
    seeds: np.ndarray,
    size: int,
    measure: Callable[[np.ndarray, int], dict[str, np.ndarray]],
    *,
    on_done: Callable[[int, bool], None] | None = None,
) -> dict[str, np.ndarray]:
    """Measures layouts part by part; parts that are in `folder` already are read.

    Args:
      folder: where the parts lie, in a folder of their own per `settings`.
      settings: plain values; everything that decides the numbers besides the seeds.
      seeds: `[E]`, measured `size` at a time.
      measure: (seeds `[size]`, count) -> name -> `[size, ...]`. A part that is short is
        filled up with its last seed; only the first `count` rows are kept.
      on_done: called with the number of layouts, and whether they were measured just
        now (True) or read (False).

    Returns:
      name -> `[E, ...]`.
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    found = []
    for first in range(0, len(seeds), size):
        block = seeds[first : first + size]
        path = as_path(folder) / name / f"{block[0]}_{len(block)}.npz"
        is_new = not path.exists()
        if not is_new:
            with fetched(path) as copy, np.load(copy, allow_pickle=False) as file:
                part = dict(file)
        else:
            filled = np.concatenate([block, np.repeat(block[-1:], size - len(block))])
            part = measure(filled, len(block))
            part = {k: np.asarray(v)[: len(block)] for k, v in part.items()}
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **part)
        found.append(part)
        if on_done:
            on_done(len(block), is_new)
    return {k: np.concatenate([part[k] for part in found]) for k in found[0]}

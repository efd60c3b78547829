"""A trained policy in one small file: what acting needs, and nothing of training.

The file is a ZIP archive: ``meta.json``, as in a checkpoint's folder, and
``state.npz``, one array for each leaf of the parameters and of `TrainState.extra`.
`checkpoint.load` reads it like a folder. The optimiser's state is left out, so training
cannot go on from it.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import checkpoint_content as content
from sas_jax import learners
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.files import atomic
from sas_jax.types import TrainState

# A small policy of PointGoal1 that comes with the package: the demo's.
SHIPPED = Path(__file__).resolve().parent / "shipped" / "PointGoal1.zip"


def _leaves(state: TrainState) -> dict[str, Any]:
    """Path -> leaf of what is kept."""
    kept = {"params": state.params, "extra": state.extra}
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(kept)
    }


def pack(loaded: content.Checkpoint, out: str | Path) -> Path:
    """Writes a checkpoint's policy to the file `out`, whole or not at all.

    Raises:
      UserError: a file that cannot be written.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _leaves(loaded.state).items()}
    about = content.meta(loaded.config, loaded.spec, loaded.card, loaded.run)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with atomic.replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as file:
        # A member's own name carries no date, so that one policy is one file.
        for name, data in (
            ("meta.json", json.dumps(about | {"step": loaded.step}, indent=1)),
            ("state.npz", buffer.getvalue()),
        ):
            file.writestr(zipfile.ZipInfo(name), data)
    return Path(out)


def load(path: str | Path) -> content.Checkpoint:
    """Reads what `pack` wrote; the state has no optimiser.

    Raises:
      UserError: no such file, damage, another schema, or networks of other sizes.
    """
    name = str(path)
    with content.whole(name):
        try:
            with zipfile.ZipFile(path) as file:
                text = file.read("meta.json").decode()
                with np.load(io.BytesIO(file.read("state.npz"))) as arrays:
                    arrays = dict(arrays)
        except zipfile.BadZipFile as error:
            raise ValueError(str(error)) from error
    meta = content.parse(text, name)
    config, spec = learners.from_dict(meta["config"]), DataSpec.from_json(meta["spec"])
    abstract = content.abstract_state(config, spec)
    wanted = {name: leaf.shape for name, leaf in _leaves(abstract).items()}
    found = {name: array.shape for name, array in arrays.items()}
    if strange := sorted(wanted.keys() ^ found.keys()):
        raise UserError(
            f"checkpoint {name!r} is damaged: {strange[0]!r} is "
            f"{'missing' if strange[0] in wanted else 'no part of its networks'}"
        )
    if wanted != found:
        raise content.other_sizes(name)
    kept = {"params": abstract.params, "extra": abstract.extra}
    leaves = [jnp.asarray(arrays[key]) for key in _leaves(abstract)]
    kept = jax.tree.unflatten(jax.tree.structure(kept), leaves)
    count = len(config.train.lanes)
    state = TrainState(
        step=jnp.full(count, meta["step"], jnp.int32),
        key=jax.random.split(jax.random.key(0), count),
        opt_state=None,
        **kept,
    )
    return content.Checkpoint(
        config, spec, state, meta["step"], meta["card"], meta["run"]
    )

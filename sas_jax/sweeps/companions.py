"""What some variants need beside a cell's checkpoint: fitted once, kept in its folder.

A cost critic (`critic`), a model of the return to ask for (`asking`), and one of where
the data are (`support`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sas_jax.asking import file as asking_file
from sas_jax.asking.fit import fit_asking
from sas_jax.asking.network import AskingConfig
from sas_jax.checkpoint import Checkpoint
from sas_jax.critic import file as critic_file
from sas_jax.critic.fit import fit_critic
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.support import file as support_file
from sas_jax.support.fit import fit_support
from sas_jax.support.model import SupportConfig
from sas_jax.sweeps.cells import Cell

# Names of `evaluate`'s arguments -> how that is fitted, written and read.
_FITTED = {
    "critic": (fit_critic, critic_file.save_critic, critic_file.load_critic),
    "asking": (fit_asking, asking_file.save_asking, asking_file.load_asking),
    "support": (fit_support, support_file.save_support, support_file.load_support),
}


def fitted(
    cell: Cell,
    folder: Path,
    loaded: Checkpoint,
    load: Callable[[], Episodes],
    report: Callable[[str, int, int], None],
    clock: Any,
) -> dict[str, Any]:
    """All that the cell's variants need, by the name that `evaluate` gives it.

    Args:
      folder: of the cell. loaded: its checkpoint. load: reads its data.
      report: told of what goes on. clock: laps of stages, as `run_cell` has it.

    Raises:
      UserError: data that the checkpoint was not trained on, or that cannot be fitted.
    """
    settings = {
        "critic": cell.critic,
        "asking": AskingConfig(),
        "support": SupportConfig(),
    }
    found, episodes = {}, None
    for name in cell.companions:
        config = settings[name]
        fit, save, read = _FITTED[name]
        path = folder / f"{name}.npz"
        if not path.exists():
            episodes = episodes or _checked(cell, loaded, load())
            train, steps = cell.config.train, config.num_steps
            with clock.lap(name, steps):
                both = fit(
                    episodes,
                    loaded.spec,
                    config,
                    cell.evaluation.seed,
                    held_out=train.held_out,
                    split_seed=train.seed,
                    on_look=lambda step, _, n=name, of=steps: report(n, step, of),
                )
            save(path, *both)
        found[name] = read(path, loaded.spec)
    return found


def _checked(cell: Cell, loaded: Checkpoint, episodes: Episodes) -> Episodes:
    """The data, after a look at whether the checkpoint was trained on them."""
    train = cell.config.train
    training, _ = episodes.split(train.held_out, seed=train.seed)
    if training.fingerprint() != loaded.spec.fingerprint:
        raise UserError(
            f"{cell}: its data are not those that its checkpoint was trained on; "
            "expected the same, or another sweep"
        )
    return episodes

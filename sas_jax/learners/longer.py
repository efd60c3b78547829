"""May a training go on to more steps than it was begun with?

It may where every step that was made would have been the same: then the result is that
of a run which was meant to be so long from the start, bit for bit.
"""

import dataclasses
from typing import Any

from sas_jax import learners
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig


def is_longer(
    new: ExperimentConfig,
    old: ExperimentConfig,
    step: int,
    run: dict[str, Any],
    place: str,
) -> bool:
    """Whether `new` is `old` with more steps, and nothing else.

    Args:
      step: of the last checkpoint. run: what it knows of itself. place: for messages.

    Raises:
      UserError: it is, but steps that were made would have been others.
    """
    before, after = old.train, new.train
    # How many devices share the work is no part of a run.
    same = dataclasses.replace(before, num_steps=after.num_steps, devices=after.devices)
    if dataclasses.replace(old, train=same) != new:
        return False
    if after.num_steps <= before.num_steps:
        return False
    reason = ""
    if not learners.get(old.algo).is_extensible:
        reason = f"algo {old.algo!r} plans its stages by it"
    elif before.schedule != "constant":
        reason = f"the learning rates of train.schedule={before.schedule} depend on it"
    elif before.keep_fractions:
        reason = "train.keep_fractions are shares of it"
    elif step % before.chunk:
        reason = f"step {step} is no multiple of train.chunk {before.chunk}"
    elif before.stop_on and run.get("is_finished"):
        reason = f"train.stop_on={before.stop_on} kept the best states, not the last"
    if reason:
        raise UserError(
            f"workdir {place!r}: a run of train.num_steps {before.num_steps} cannot go "
            f"on to {after.num_steps}: {reason}; expected another folder"
        )
    return True

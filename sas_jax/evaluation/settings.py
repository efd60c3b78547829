"""What the rows of one results file share, as plain values beside them."""

import hashlib
import os

from sas_jax import config as config_lib
from sas_jax.checkpoint import Checkpoint
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.files.places import fetched


def settings_of(
    loaded: Checkpoint,
    config: EvaluationConfig,
    *,
    critic_file: str | os.PathLike | None = None,
    on_device: int | None = None,
) -> dict:
    """Settings of `results_file.ResultsFile`; variants, layouts, thresholds and changed
    worlds are in the rows.

    critic_file, on_device: of the evaluation; None where it has none.
    """
    critic = None
    if critic_file:
        with fetched(critic_file) as path:
            critic = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    # Rows of worker processes came first, and their files say nothing.
    device = {} if on_device is None else {"on_device": on_device}
    return device | {
        "experiment": config_lib.to_dict(loaded.config),
        "data": loaded.spec.fingerprint,
        "step": loaded.step,
        "seed": config.seed,
        "target_return": config.target_return,
        "critic": critic,
    }

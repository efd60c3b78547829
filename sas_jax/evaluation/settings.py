"""What the rows of one results file share, as plain values beside them."""

import os

from sas_jax import config as config_lib
from sas_jax import risks
from sas_jax.checkpoint import Checkpoint
from sas_jax.evaluation.config import EvaluationConfig


def settings_of(
    loaded: Checkpoint,
    config: EvaluationConfig,
    *,
    critic_file: str | os.PathLike | None = None,
    asking_file: str | os.PathLike | None = None,
    support_file: str | os.PathLike | None = None,
    on_device: int | None = None,
) -> dict:
    """Settings of `results_file.ResultsFile`; variants, layouts, thresholds and changed
    worlds are in the rows.

    critic_file, asking_file, support_file, on_device: of the evaluation; None where it
    has none.
    """
    # What came later is told where it is there; files of before say nothing.
    later: dict = {} if on_device is None else {"on_device": on_device}
    if asking_file:
        later["asking"] = risks.digest(asking_file)
    if support_file:
        later["support"] = risks.digest(support_file)
    return later | {
        "experiment": config_lib.to_dict(loaded.config),
        "data": loaded.spec.fingerprint,
        "step": loaded.step,
        "seed": config.seed,
        "target_return": config.target_return,
        "critic": risks.digest(critic_file) if critic_file else None,
    }

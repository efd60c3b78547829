"""What is fitted beside a checkpoint, to its data: reading, a bar, file and report."""

import json

import numpy as np
from tqdm import tqdm

from experiments import data_flag, settings_flag
from sas_jax.errors import UserError


def fit_beside(
    name: str,
    fit,
    save,
    config,
    *,
    workdir: str | None,
    step: int | None,
    seed: int,
    out: str | None,
) -> tuple[dict, str]:
    """Fits, saves, and writes the report beside the file. Returns report and file.

    Args:
      name: of what is fitted, and of its file where `out` names none.
      fit, save: the library's. config: settings, before those of flags.
      workdir, step: the checkpoint's. seed: of the fit.
    """
    if not workdir or not data_flag.value():
        raise UserError("--checkpoint and --data: expected both")
    from sas_jax import checkpoint
    from sas_jax import config as config_lib
    from sas_jax.files import atomic

    config = settings_flag.apply(
        config, merge=config_lib.merge, override=config_lib.override
    )
    loaded = checkpoint.load(workdir, step)
    train = loaded.config.train
    out = out or f"{workdir}/{name}.npz"
    atomic.probe(out)
    episodes = data_flag.load(loaded.config.task)
    data_flag.split(episodes, loaded.config, loaded.spec, workdir)
    with tqdm(desc=name, unit="step", total=config.num_steps) as bar:

        def show(step, losses):
            bar.update(step - bar.n)
            bar.set_postfix(held_out_loss=f"{np.mean(losses):.4f}", refresh=False)

        fitted, report = fit(
            episodes,
            loaded.spec,
            config,
            seed,
            held_out=train.held_out,
            split_seed=train.seed,
            on_look=show,
        )
    save(out, fitted, report)
    atomic.write_text(f"{out}.json", json.dumps(report, indent=1))
    return report, out

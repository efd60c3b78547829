"""A small checkpoint that plans, and the flags by which a command plays it."""

from pathlib import Path

from sas_jax.training import fit as training_fit
from tests.helpers.model_fixtures import make_config, make_episodes


def flags_of_a_run(folder: Path, out: Path) -> list[str]:
    """Trains two steps in `folder`; flags of whoever writes a table `out` of it."""
    config = make_config(
        decoder={"depth": 1, "context": 4},
        train={"num_steps": 2, "chunk": 2, "checkpoint_every": 2, "warmup": 1},
        model={"max_timestep": 1000},
    )
    training_fit.fit(config, make_episodes((40, 40), obs_dim=60), folder)
    plan = "num_candidates=3 num_reference=1 horizon=3 execute=3 push_steps=0".split()
    settings = [f"--set=sas.plan.{setting}" for setting in plan]
    return [f"--checkpoint={folder}", f"--out={out}", *settings]

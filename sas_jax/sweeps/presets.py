"""Settings by name that a plan gives to its methods, task by task."""

from collections.abc import Callable
from typing import Any

from sas_jax import learners
from sas_jax.errors import UserError, nearest
from sas_jax.experiment import ExperimentConfig, action_sensors


def demo(task: str, algo: str) -> dict[str, Any]:
    """A model a quarter of the paper's width squared, trained fast and briefly.

    Its policy does not see what shows its last action, which it would copy, and DT has
    seen prompts in training, by which it would lose its way. Learners on single steps
    keep their defaults and get the same eyes.

    Returns:
      Nested values, as `learners.merge` takes them.
    """
    blind = list(action_sensors(task))
    if not learners.get(algo).has_world_model:
        return {"model.policy_blind": blind}
    values = {
        "model.decoder.width": 64,
        "model.vae_hidden": [256, 256],
        "model.latent_dim": 16,
        "model.marginal_latent_dim": 16,
        "model.policy_hidden": [256, 256],
        "model.action_history": False,
        "model.policy_blind": blind,
        "train.num_steps": 3000,
        "train.batch_rows": 8,
        "train.learning_rate": 3e-3,
        "train.warmup": 200,
        "train.schedule": "cosine",
        "train.checkpoint_every": 500,
    }
    return values | ({"policy.prompt_prob": 0.5} if algo == "dt" else {})


# What the learners on single steps have under `brief` beside its common settings.
_BRIEF: dict[str, dict[str, Any]] = {
    "coptidice": {"train.learning_rate": 1e-3, "model.scalar_rate": 1e-3},
    "cpq": {"model.vae_hidden": [128, 128], "model.alpha_rate": 1e-3},
    "bcq_lag": {"model.vae_hidden": [128, 128]},
    "bear_lag": {"model.vae_hidden": [128, 128]},
    "fisor": {"model.width": 128, "model.average_rate": 0.005},
    "doc": {"train.batch_rows": 64},
}


def brief(task: str, algo: str) -> dict[str, Any]:
    """Small networks and few updates for the learners on single steps: minutes of a CPU
    where the papers have hours of a GPU. Learning rates that are made for a tenth of a
    pace are raised.

    Returns:
      Nested values, as `learners.merge` takes them; `demo`'s for all other learners.
    """
    has_actor = hasattr(learners.get(algo).default_config(task).model, "actor_rate")
    if not has_actor and algo not in _BRIEF:
        return demo(task, algo)
    return {
        **demo(task, algo),
        **({"model.actor_rate": 3e-4} if has_actor else {}),
        "model.hidden": [128, 128],
        "train.num_steps": 10_000,
        "train.batch_rows": 128,
        **_BRIEF.get(algo, {}),
    }


# Name -> function of (task, algo) to what differs from the algorithm's own defaults.
PRESETS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "default": lambda task, algo: {},
    "demo": demo,
    "brief": brief,
}


def config_of(preset: str, task: str, algo: str) -> ExperimentConfig:
    """An algorithm's settings for a task under a preset.

    Raises:
      UserError: no such preset, algorithm or task.
    """
    if preset not in PRESETS:
        raise UserError(
            f"preset: unknown {preset!r}{nearest(preset, PRESETS)} "
            f"(known: {', '.join(PRESETS)})"
        )
    config = learners.get(algo).default_config(task)
    return learners.merge(config, PRESETS[preset](task, algo))

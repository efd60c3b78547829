"""sas_jax: Lyapunov-guided self-alignment (SAS) of sequence policies in JAX.

Public names load on first use (PEP 562), so that ``import sas_jax`` costs nothing
and the environment workers, which must not start an accelerator backend, can import
`sas_jax.envs` without importing JAX.
"""

import importlib

__version__ = "0.1.0"

# Public name -> module that defines it.
_EXPORTS: dict[str, str] = {
    "SASConfig": "sas_jax.alignment.config",
    "PlanConfig": "sas_jax.alignment.config",
    "align": "sas_jax.alignment.algorithm1",
    "align_batch": "sas_jax.alignment.algorithm1",
    "make_tiling": "sas_jax.alignment.tiles",
    "AlignedPolicy": "sas_jax.alignment.simulator",
    "from_history_policy": "sas_jax.policies.history",
    "imagine": "sas_jax.alignment.imagination",
    "RiskModel": "sas_jax.alignment.gate",
    "SequenceModel": "sas_jax.alignment.sequence_model",
    "Checkpoint": "sas_jax.checkpoint",
    "load_checkpoint": "sas_jax.checkpoint",
    "load_policy": "sas_jax.api",
    "EvaluationConfig": "sas_jax.evaluation.evaluate",
    "ExperimentConfig": "sas_jax.experiment",
    "default_config": "sas_jax.learners",
    "fit": "sas_jax.training.fit",
    "make_card": "sas_jax.card.measure",
    "Episodes": "sas_jax.data.episodes",
    "load_data": "sas_jax.data.dsrl",
    "VectorEnv": "sas_jax.envs.vector.env",
    "get_task": "sas_jax.envs.tasks",
    "UserError": "sas_jax.errors",
}
# Public names that are called otherwise where they are defined.
_RENAMED = {"load_checkpoint": "load", "load_data": "load"}

__all__ = [  # noqa: PLE0604 (the names are strings)
    "__version__",
    *_EXPORTS,
]


def __getattr__(name: str):
    if name in _EXPORTS:
        module = importlib.import_module(_EXPORTS[name])
        return getattr(module, _RENAMED.get(name, name))
    raise AttributeError(f"module 'sas_jax' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)

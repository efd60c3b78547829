"""sas_jax: Lyapunov-guided self-alignment (SAS) of sequence policies in JAX.

Public names load on first use (PEP 562), so that ``import sas_jax`` costs nothing
and the environment workers, which must not start an accelerator backend, can import
`sas_jax.envs` without importing JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that defines it.
_EXPORTS: dict[str, str] = {
    "SASConfig": "sas_jax.alignment.config",
    "PlanConfig": "sas_jax.alignment.config",
    "align": "sas_jax.alignment.algorithm1",
    "align_batch": "sas_jax.alignment.algorithm1",
    "make_tiling": "sas_jax.alignment.tiles",
    "AlignedPolicy": "sas_jax.api",
    "from_history_policy": "sas_jax.policies.history",
    "from_host": "sas_jax.policies.host",
    "imagine": "sas_jax.alignment.imagination",
    "RiskModel": "sas_jax.alignment.gate",
    "SequenceModel": "sas_jax.alignment.sequence_model",
    "Checkpoint": "sas_jax.checkpoint",
    "load_checkpoint": "sas_jax.checkpoint",
    "load_policy": "sas_jax.api",
    "export_policy": "sas_jax.exporting",
    "pack_policy": "sas_jax.packed",
    "EvaluationConfig": "sas_jax.evaluation.config",
    "ExperimentConfig": "sas_jax.experiment",
    "default_config": "sas_jax.learners",
    "fit": "sas_jax.training.fit",
    "make_card": "sas_jax.card.measure",
    "Episodes": "sas_jax.data.episodes",
    "load_data": "sas_jax.data.dsrl",
    "VectorEnv": "sas_jax.envs.vector.env",
    "get_task": "sas_jax.envs.tasks",
    "register_task": "sas_jax.envs.gymnasium_tasks",
    "UserError": "sas_jax.errors",
}
# Public names that are called otherwise where they are defined.
_RENAMED = {
    "load_checkpoint": "load",
    "load_data": "load",
    "pack_policy": "pack",
    "register_task": "register",
}

if TYPE_CHECKING:  # the same, as a type checker reads it
    from sas_jax import checkpoint as _checkpoint
    from sas_jax import packed as _packed
    from sas_jax.alignment.algorithm1 import align as align
    from sas_jax.alignment.algorithm1 import align_batch as align_batch
    from sas_jax.alignment.config import PlanConfig as PlanConfig
    from sas_jax.alignment.config import SASConfig as SASConfig
    from sas_jax.alignment.gate import RiskModel as RiskModel
    from sas_jax.alignment.imagination import imagine as imagine
    from sas_jax.alignment.sequence_model import SequenceModel as SequenceModel
    from sas_jax.alignment.tiles import make_tiling as make_tiling
    from sas_jax.api import AlignedPolicy as AlignedPolicy
    from sas_jax.api import load_policy as load_policy
    from sas_jax.card.measure import make_card as make_card
    from sas_jax.checkpoint import Checkpoint as Checkpoint
    from sas_jax.data import dsrl as _dsrl
    from sas_jax.data.episodes import Episodes as Episodes
    from sas_jax.envs import gymnasium_tasks as _gymnasium_tasks
    from sas_jax.envs.tasks import get_task as get_task
    from sas_jax.envs.vector.env import VectorEnv as VectorEnv
    from sas_jax.errors import UserError as UserError
    from sas_jax.evaluation.config import EvaluationConfig as EvaluationConfig
    from sas_jax.experiment import ExperimentConfig as ExperimentConfig
    from sas_jax.exporting import export_policy as export_policy
    from sas_jax.learners import default_config as default_config
    from sas_jax.policies.history import from_history_policy as from_history_policy
    from sas_jax.policies.host import from_host as from_host
    from sas_jax.training.fit import fit as fit

    load_checkpoint = _checkpoint.load
    load_data = _dsrl.load
    pack_policy = _packed.pack
    register_task = _gymnasium_tasks.register

__all__ = [  # noqa: PLE0604 (the names are strings)
    "__version__",
    *_EXPORTS,
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module = importlib.import_module(_EXPORTS[name])
        return getattr(module, _RENAMED.get(name, name))
    raise AttributeError(f"module 'sas_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

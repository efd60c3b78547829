"""A risk for the variants that need one: a cost critic's file, or another's critic.

`experiments.critic` fits a critic for this. But whoever learnt to be safe by trial, or
offline, has a cost critic too: a checkpoint of such an algorithm stands in its place.
"""

import hashlib
import os
import zipfile
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from sas_jax import checkpoint, learners
from sas_jax.asking.file import load_asking
from sas_jax.critic.file import load_critic
from sas_jax.critic.network import Critic
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.files.places import as_path, fetched
from sas_jax.support.file import load_support


@flax.struct.dataclass
class LearntRisk:
    """A learner's cost critic as `variables["critic"]` of a sequence policy.

    variables: of the learner. scale, shift: `[O]`, from the policy's standardised
    observations to the learner's: scale x + shift. risk_model: static.
    """

    variables: Any
    scale: jax.Array
    shift: jax.Array
    risk_model: Any = flax.struct.field(pytree_node=False)

    def risk(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """`[...]` of observations `[..., O]` as the policy standardises them."""
        wide = (1,) * (obs.ndim - 1) + (-1,)
        obs = self.scale.reshape(wide) * obs + self.shift.reshape(wide)
        return self.risk_model.risk(self.variables, obs, action)

    def level(self, cost_limit: jax.Array) -> jax.Array:
        """`[...]` the largest risk to accept under a threshold."""
        return self.risk_model.level(self.variables, cost_limit)

    def value(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        """`[...]` what the critic has learnt: a discounted sum of costs, mostly."""
        return self.risk(obs, action)


def load(path: str | os.PathLike, spec: DataSpec) -> Critic | LearntRisk:
    """What `path` holds, for a policy whose data spec is `spec`.

    path: a file of experiments.critic; or a workdir of experiments.train, or a file of
      experiments.pack, of an algorithm with a cost critic: that of its first training
      seed, and where each threshold has one, of its first threshold.

    Raises:
      UserError: see `load_critic` and `checkpoint.load`; an algorithm without a cost
        critic, or observations of another task.
    """
    path = as_path(path)
    if not is_checkpoint(path):
        return load_critic(path, spec)
    return of_checkpoint(checkpoint.load(path), spec, path)


def of_checkpoint(
    loaded: checkpoint.Checkpoint, spec: DataSpec, path: str | os.PathLike
) -> LearntRisk:
    """As `load`, of a checkpoint that has been read. path: where, for messages."""
    algorithm, own = learners.get(loaded.config.algo), loaded.spec
    make: Callable | None = algorithm.make_risk
    if make is None:
        raise UserError(
            f"critic {str(path)!r}: algo {loaded.config.algo!r} has no cost critic; "
            "expected one such as 'sac_alam' or 'cpq', or a file of experiments.critic"
        )
    if (own.task, own.obs_dim) != (spec.task, spec.obs_dim):
        raise UserError(
            f"critic {str(path)!r}: learnt on {own.task}; expected {spec.task}"
        )
    state = jax.tree.map(lambda x: x[0], loaded.state)
    return LearntRisk(
        variables=algorithm.variables_of(state),
        scale=jnp.asarray(spec.obs_std / own.obs_std, jnp.float32),
        shift=jnp.asarray((spec.obs_mean - own.obs_mean) / own.obs_std, jnp.float32),
        risk_model=make(loaded.config, own),
    )


def digest(path: str | os.PathLike) -> str:
    """What tells one risk from another, in hexadecimal digits."""
    if is_checkpoint(path):
        return checkpoint.digest_of(checkpoint.load(path))
    with fetched(path) as file:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def companions(
    spec: DataSpec,
    *,
    critic: str | os.PathLike | None = None,
    asking: str | os.PathLike | None = None,
    support: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """What variants find in the variables besides, by name, of the files given.

    critic: see `load`. asking: of experiments.asking. support: of experiments.support.
    Raises UserError as they do.
    """
    found: dict[str, Any] = {}
    if critic is not None:
        found["critic"] = load(critic, spec)
    if asking is not None:
        found["asking"] = load_asking(asking, spec)
    if support is not None:
        found["support"] = load_support(support, spec)
    return found


def is_checkpoint(path: str | os.PathLike) -> bool:
    """A workdir, or a file of `packed.pack`; a critic's file is an archive, too."""
    path = as_path(path)
    if path.is_dir():
        return True
    try:
        with zipfile.ZipFile(path) as file:
            return "meta.json" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False  # said by who reads it

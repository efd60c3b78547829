"""What PyTorch twins of our actor-critics share: parameters, optimisers, steps."""

import jax
import numpy as np
import torch
from torch.nn import functional

from sas_jax.experiment import ExperimentConfig
from sas_jax.types import TransitionBatch


def tensors(tree):
    """A pytree of arrays as tensors that can be trained."""
    return jax.tree.map(
        lambda x: torch.from_numpy(np.array(x)).requires_grad_(True), tree
    )


def mlp(params, *inputs):
    """ReLU layers; parameters may have a leading axis of members."""
    x = torch.cat(inputs, dim=-1)
    names = sorted(params)
    is_many = params[names[0]]["bias"].dim() == 2
    if is_many:
        x = x.expand(len(params[names[0]]["bias"]), *x.shape)
    for name in names:
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        if is_many:
            x = torch.baddbmm(bias[:, None], x, kernel)
        else:
            x = torch.addmm(bias, x, kernel)
        x = x if name == names[-1] else functional.relu(x)
    return x


class TorchActorCritic:
    """Groups of parameters with an optimiser each; `losses` is the algorithm's own."""

    def __init__(self, config: ExperimentConfig, params):
        """params: groups of our state."""
        self.model = config.model
        self.params = {name: tensors(tree) for name, tree in params.items()}
        rates = {"actor": config.model.actor_rate}
        self.optimizers = {
            name: torch.optim.Adam(
                jax.tree.leaves(tree),
                lr=rates.get(name, config.train.learning_rate),
                foreach=True,
            )
            for name, tree in self.params.items()
        }

    def q(self, params, obs, action):
        """Members' values `[2, B]`."""
        (stacked,) = params.values()
        return mlp(stacked, obs, action)[..., 0]

    def gaussian(self, obs):
        """Mean and log-std of the policy before tanh, `[B, A]` each."""
        mean, log_std = mlp(self.params["actor"]["MLP_0"], obs).chunk(2, dim=-1)
        return mean, log_std.clamp(-20, 2)

    def descend(self, name, loss):
        """One step of a group's optimiser."""
        mine = jax.tree.leaves(self.params[name])
        slopes = torch.autograd.grad(loss, mine)
        for leaf, slope in zip(mine, slopes, strict=True):
            leaf.grad = slope
        self.optimizers[name].step()

    def follow(self, target, params):
        """Moves a target's tensors towards those of a group."""
        with torch.no_grad():
            old, new = map(jax.tree.leaves, (target, params))
            torch._foreach_lerp_(old, new, self.model.target_rate)


def as_tensors(batch: TransitionBatch, fields) -> dict[str, torch.Tensor]:
    """Fields of a batch as float tensors."""
    return {
        name: torch.from_numpy(np.array(getattr(batch, name), np.float32))
        for name in fields
    }


def difference(ours, theirs) -> dict[str, float]:
    """Largest differences of named losses, relative to 1 + |loss|."""
    return {
        name: abs(float(ours[name]) - float(x)) / (1.0 + abs(float(x)))
        for name, x in theirs.items()
    }

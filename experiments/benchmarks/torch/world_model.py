"""The PyTorch world model put together, and imagination that re-encodes its history.

    for every step: tokens of the last K steps -> transformer -> action;
                    the same tokens and the action -> transformer -> next state

Up to K steps this is what the ring of `policies.cached` computes. Later it is not: the
ring's older keys still know what has left the window, a history cut to K steps has
forgotten it. `torch_timing.check` compares the two where they agree.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from experiments.benchmarks.torch import model as torch_model
from experiments.benchmarks.torch.model import MLP
from sas_jax.data.spec import DataSpec
from sas_jax.models.config import WorldModelConfig
from sas_jax.models.world_model import POLICY_LOG_STD

# Share of an episode below which a target per remaining step grows no further.
_LEAST_LEFT = 0.05


class Prediction(NamedTuple):
    """What the heads say of P trajectories' next step.

    obs `[P, O]` standardised; return_to_go (scaled), cost, log_density `[P]`.
    """

    obs: torch.Tensor
    return_to_go: torch.Tensor
    cost: torch.Tensor
    log_density: torch.Tensor


class TorchWorldModel(nn.Module):
    """DT's tokens, decoder and heads with a JAX model's parameters, in `eval` mode.

    variables: "params" and "variances" of the JAX model.
    """

    def __init__(self, config: WorldModelConfig, spec: DataSpec, variables: dict):
        super().__init__()
        self.config = config
        width, obs_dim, action_dim = config.decoder.width, spec.obs_dim, spec.action_dim
        self.embed_return = nn.Linear(1, width)
        self.embed_obs = nn.Linear(obs_dim, width)
        self.embed_action = nn.Linear(action_dim, width)
        self.embed_timestep = nn.Embedding(config.max_timestep, width)
        self.norm_embedding = torch_model.layer_norm(width)
        self.decoder = torch_model.Decoder(
            width, config.decoder.depth, config.decoder.num_heads
        )
        inputs = width + obs_dim + 3
        self.policy = MLP(inputs, config.policy_hidden, 2 * action_dim)
        context = width + 2 * obs_dim + action_dim
        self.transition = torch_model.GaussianVAE(
            MLP(obs_dim + context, config.vae_hidden, 2 * config.latent_dim),
            torch_model.TransitionDecoder(config, spec),
            config.decoder_floor,
        )
        latent = config.marginal_latent_dim
        self.marginal = torch_model.GaussianVAE(
            MLP(obs_dim, config.vae_hidden, 2 * latent),
            MLP(latent, config.vae_hidden, obs_dim),
            1e-6,
        )
        self.reward_head = MLP(context, config.head_hidden, 1)
        self.cost_head = torch_model.NoisyOr(obs_dim, spec.rings)
        self.reward_unit = spec.reward_std / spec.return_scale
        self.episode_steps = spec.max_timestep
        torch_model.load(self, variables["params"])
        self.register_buffer("active", torch.tensor(np.array(spec.obs_active)))
        for kind, variance in variables["variances"].items():
            variance = np.maximum(np.asarray(variance), config.decoder_floor**2)
            self.register_buffer(
                f"{kind}_log_std", torch.tensor(0.5 * np.log(variance))
            )
        self.eval()

    def hidden(self, *history, has_action: bool):
        """Hidden state `[P, D]` at the last token of W whole steps; see `encode`."""
        return self.encode(*history, has_action=has_action, num_out=1)[0]

    def encode(
        self, obs, action, return_to_go, timestep, *, has_action: bool, num_out: int
    ):
        """Hidden states `[num_out, P, D]` at the last tokens of W whole steps.

        obs `[P, W, O]`, action `[P, W, A]`, return_to_go `[P, W]` (model units),
        timestep `[W]`. Without `has_action` the last action is not there yet.
        """
        tokens = torch.stack(
            [
                self.embed_return(return_to_go[..., None]),
                self.embed_obs(obs),
                self.embed_action(action),
            ],
            dim=2,
        )
        tokens = tokens + self.embed_timestep(timestep)[:, None]
        tokens = self.norm_embedding(tokens).flatten(1, 2)
        return self.decoder(tokens if has_action else tokens[:, :-1], num_out)

    def action_distribution(self, z, obs, return_to_go, t: int):
        """z `[P, D]`, obs `[P, O]`, return_to_go `[P]` -> mean, log_std `[P, A]`."""
        left = max(1.0 - t / self.episode_steps, 1.0 / self.episode_steps)
        asked = [return_to_go, return_to_go / max(left, _LEAST_LEFT)]
        asked = torch.stack([torch.full_like(return_to_go, left), *asked], -1)
        mean, log_std = self.policy(torch.cat([z, obs, asked], -1)).chunk(2, dim=-1)
        return mean, log_std.clamp(*POLICY_LOG_STD)

    def predict(
        self, z, obs, change, action, return_to_go, latent, obs_noise, density_noise
    ) -> Prediction:
        """The next step, and the density of the state it leads to.

        latent `[P, Z]`, obs_noise `[P, O]` (scaled already), density_noise `[n, P, Z]`.
        """
        context = torch.cat([z, obs, action, change], -1)
        mean, log_scale = self.transition.decode(latent, context)
        floor = self.config.decoder_floor
        std = torch.exp(self.transition_log_std + log_scale).clamp(min=floor)
        std = (std.square() - floor**2).clamp(min=0.0).sqrt()
        after = obs + torch.where(self.active, mean + obs_noise * std, 0.0)
        after = self.transition.decoder.settle(after)
        density = self.transition.log_density(
            after - obs, context, density_noise, self.transition_log_std, self.active
        )
        reward = self.reward_head(torch.cat([z, obs, action, after - obs], -1))[..., 0]
        cost = torch.sigmoid(self.cost_head(after))
        return_to_go = return_to_go - self.reward_unit * reward
        return Prediction(after, return_to_go, cost, density)

    def truncated_density(
        self, history, action, obs, change, after, density_noise, t: int
    ):
        """log pi + log rho `[P]` of a step whose history `history` was cut short.

        One pass: the states at the state and at the action token are in it both.
        """
        z_state, z_action = self.encode(*history, has_action=True, num_out=2)
        target = history[2][:, -1]
        mean, log_std = self.action_distribution(z_state, obs, target, t)
        log_prob = torch_model.gaussian_log_prob(action, mean, log_std).sum(-1)
        context = torch.cat([z_action, obs, action, change], -1)
        return log_prob + self.transition.log_density(
            after - obs, context, density_noise, self.transition_log_std, self.active
        )

    def first_log_density(self, obs, noise):
        """The marginal's bound `[P]` of the first state; noise `[n, P, Z]`."""
        empty = obs[..., :0]
        return self.marginal.log_density(
            obs, empty, noise, self.marginal_log_std, self.active
        )


@torch.inference_mode()
def _empty(count, horizon, obs_dim, action_dim, truncations):
    """What `imagine` fills in: one entry more of what a step leads to."""
    sizes = {
        "obs": (horizon + 1, obs_dim),
        "action": (horizon, action_dim),
        "return_to_go": (horizon + 1,),
        "log_density": (horizon + 1,),
        "log_prob": (horizon,),
        "cost": (horizon,),
        "truncated": (horizon, truncations),
    }
    return {name: torch.zeros(count, *size) for name, size in sizes.items()}


def imagine(
    model: TorchWorldModel,
    obs: torch.Tensor,
    return_to_go: torch.Tensor,
    *,
    horizon: int,
    num_importance: int,
    decoder_noise: float,
    generator: torch.Generator,
    truncations: int = 0,
) -> dict[str, torch.Tensor]:
    """`horizon` steps of P trajectories, each step from its last K steps anew.

    Args:
      obs: `[P, O]` standardised; return_to_go: `[P]` scaled.
      num_importance: samples of the density's bound.
      decoder_noise: scale of the decoder's noise.
      truncations: every step's density once more from a history shorter by one step,
        by two, and so on: how the public code gets the terms of its energy.

    Returns:
      `[P, T, ...]`: obs, action, return_to_go, cost, log_prob and log_density; and
      "truncated" `[P, T, truncations]`.
    """
    config, count = model.config, obs.shape[0]
    action_dim = model.embed_action.in_features

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    out = _empty(count, horizon, obs.shape[1], action_dim, truncations)
    out["obs"][:, 0], out["return_to_go"][:, 0] = obs, return_to_go
    first = noise(num_importance, count, config.marginal_latent_dim)
    out["log_density"][:, 0] = model.first_log_density(obs, first)
    times = torch.arange(horizon).clamp(max=config.max_timestep - 1)
    for t in range(horizon):
        seen = slice(max(0, t + 1 - config.decoder.context), t + 1)
        history = (
            out["obs"][:, seen],
            out["action"][:, seen],
            out["return_to_go"][:, seen],
            times[seen],
        )
        obs, target = out["obs"][:, t], out["return_to_go"][:, t]
        z = model.hidden(*history, has_action=False)
        mean, log_std = model.action_distribution(z, obs, target, t)
        sample = mean + log_std.exp() * noise(count, action_dim)
        action = sample.clamp(-1.0, 1.0)
        log_prob = torch_model.gaussian_log_prob(action, mean, log_std).sum(-1)
        out["action"][:, t] = action  # also in `history`, which is a view
        z = model.hidden(*history, has_action=True)
        change = obs - out["obs"][:, t - 1] if t else torch.zeros_like(obs)
        after = model.predict(
            z,
            obs,
            change,
            action,
            target,
            noise(count, config.latent_dim),
            decoder_noise * noise(*obs.shape),
            noise(num_importance, count, config.latent_dim),
        )
        out["log_prob"][:, t], out["cost"][:, t] = log_prob, after.cost
        out["obs"][:, t + 1] = after.obs
        out["return_to_go"][:, t + 1] = after.return_to_go
        out["log_density"][:, t + 1] = after.log_density
        for k in range(1, truncations + 1):
            cut = min(k, history[3].shape[0] - 1)
            out["truncated"][:, t, k - 1] = model.truncated_density(
                (*(x[:, cut:] for x in history[:3]), history[3][cut:]),
                action,
                obs,
                change,
                after.obs,
                noise(num_importance, count, config.latent_dim),
                t,
            )
    return {name: x[:, :horizon] for name, x in out.items()}

"""What the public SAS code computes for an imagined step, written anew in PyTorch.

Its model is not ours: linear Gaussian heads on a GPT-2 of DT's sizes, no VAE, no shared
network of the bins, no cost. Its step is three passes one after another, over the last
K, K - 1 and K - 2 steps; the first gives the next action, state and return-to-go, and
all three give the densities whose discounted sum is the occupancy. Every pass is padded
to its length, every head runs over all tokens, and attention is not fused. Kinder than
that code: histories lie in one array instead of being concatenated anew, and pads are
made once.

Weights are random, outputs are checked for nothing but being finite: this is a clock.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.torch.model import gaussian_log_prob
from sas_jax.models.transformer import DecoderConfig

# The public code's H, the context lengths that one energy is summed over.
PASSES = 3
_DISCOUNT = 0.99
_LOG_STD_RANGE = (-20.0, 2.0)


class Block(nn.Module):
    """GPT-2's block: one product for query, key and value, then softmax by hand."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x, is_seen, bias):
        """x `[P, n, D]`, is_seen `[n, n]`, bias `[P, 1, 1, n]` -> `[P, n, D]`."""
        parts = self.query_key_value(self.norm_attention(x)).chunk(3, dim=-1)
        query, key, value = (
            y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in parts
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        scores = torch.where(is_seen, scores, -1e4) + bias
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = x + self.project(attended)
        hidden = functional.relu(self.expand(self.norm_feed_forward(x)))
        return x + self.contract(hidden)


class PublicModel(nn.Module):
    """The public code's Decision Transformer at the sizes of `decoder`."""

    def __init__(self, decoder: DecoderConfig, obs_dim: int, action_dim: int):
        super().__init__()
        width = decoder.width
        self.context, self.obs_dim = decoder.context, obs_dim
        self.embed_return = nn.Linear(1, width)
        self.embed_obs = nn.Linear(obs_dim, width)
        self.embed_action = nn.Linear(action_dim, width)
        self.embed_timestep = nn.Embedding(decoder.context, width)
        self.norm_embedding = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, decoder.num_heads) for _ in range(decoder.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.obs_mean = nn.Linear(width, obs_dim)
        self.obs_log_std = nn.Linear(width, obs_dim)
        self.action_mean = nn.Linear(width, action_dim)
        self.action_log_std = nn.Linear(width, action_dim)
        self.next_return = nn.Linear(width, 1)
        size = 3 * decoder.context
        self.register_buffer("causal", torch.ones(size, size).tril().bool())
        generator = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, 0.02, generator=generator)
        self.eval()

    def forward(self, obs, action, return_to_go, timestep, mask):
        """W steps: obs `[P, W, O]`, action `[P, W, A]`, return_to_go `[P, W, 1]`.

        timestep `[W]`, mask `[P, W]`. Returns predictions of every step (next obs,
        action, next return-to-go) and the log-density `[P]` of the last one.
        """
        count, length = obs.shape[:2]
        time = self.embed_timestep(timestep)
        tokens = torch.stack(
            [
                self.embed_return(return_to_go) + time,
                self.embed_obs(obs) + time,
                self.embed_action(action) + time,
            ],
            dim=2,
        ).flatten(1, 2)
        x = self.norm_embedding(tokens)
        bias = -1e4 * (1.0 - mask.repeat_interleave(3, dim=1))[:, None, None, :]
        is_seen = self.causal[: 3 * length, : 3 * length]
        for block in self.blocks:
            x = block(x, is_seen, bias)
        x = self.norm(x).reshape(count, length, 3, -1)
        after, log_density = _mode(self.obs_mean, self.obs_log_std, x[:, :, 2])
        action, log_prob = _mode(self.action_mean, self.action_log_std, x[:, :, 1])
        following = self.next_return(x[:, :, 2])
        # The public code pairs the state before the last with the last action.
        total = log_density[:, -2] + log_prob[:, -1]
        return after, torch.tanh(action), following, total


def _mode(mean_head, log_std_head, hidden):
    """A Gaussian's mean `[..., X]`, and its density there less tanh's Jacobian."""
    mean = mean_head(hidden)
    log_std = log_std_head(hidden).clamp(*_LOG_STD_RANGE)
    jacobian = 2.0 * (math.log(2.0) - mean - functional.softplus(-2.0 * mean))
    return mean, (gaussian_log_prob(mean, mean, log_std) - jacobian).sum(-1)


@torch.inference_mode()
def imagine(
    model: PublicModel, obs: torch.Tensor, return_to_go: torch.Tensor, *, horizon: int
) -> dict[str, torch.Tensor]:
    """`horizon` steps of P trajectories from obs `[P, O]`, return_to_go `[P]`.

    Returns `[P, T, ...]`: obs, action, return_to_go and occupancy.
    """
    count, context = obs.shape[0], model.context
    pads = context - 1  # zero steps in front, which the public code attends to as well
    out = {
        "obs": torch.zeros(count, pads + horizon + 1, obs.shape[1]),
        "action": torch.zeros(
            count, pads + horizon + 1, model.action_mean.out_features
        ),
        "return_to_go": torch.zeros(count, pads + horizon + 1, 1),
    }
    out["obs"][:, pads], out["return_to_go"][:, pads, 0] = obs, return_to_go
    occupancy = torch.zeros(count, horizon)
    discounts = _DISCOUNT ** torch.arange(PASSES, dtype=torch.float32)
    for t in range(horizon):
        seen, found = slice(t, t + context), []
        filled = min(t + 1, context)
        times = torch.zeros(context, dtype=torch.long)
        times[context - filled :] = torch.arange(filled)
        mask = torch.ones(count, context)
        for k in range(PASSES):
            history = [out[n][:, seen][:, k:] for n in ("obs", "action")]
            history.append(out["return_to_go"][:, seen][:, k:])
            found.append(model(*history, times[k:], mask[:, k:]))
        after, action, following, _ = found[0]
        now = pads + t + 1
        out["obs"][:, now], out["action"][:, now] = after[:, -1], action[:, -1]
        out["return_to_go"][:, now] = following[:, -1]
        densities = torch.stack([log_density for *_, log_density in found])
        occupancy[:, t] = discounts @ densities.exp()
    steps = slice(pads, pads + horizon)
    return {name: x[:, steps] for name, x in out.items()} | {"occupancy": occupancy}

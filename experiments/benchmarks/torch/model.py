"""The world model of `sas_jax` once more in PyTorch, without a memory: the comparison.

Written for the benchmark against a loop that encodes its history anew at every step, as
the public SAS code does. The networks are those of `world_model.WorldModel` for DT in
evaluation mode, and modules and parameters bear flax's names, so that `load` takes a
JAX model's parameters as they are. Where the two could differ in speed for a reason
other than re-encoding, PyTorch gets the faster form: fused causal attention, heads on
the last token only, no padding of short histories.

Imports PyTorch at once; `torch_timing.require` says what to do where it is missing.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sas_jax.data.spec import DataSpec
from sas_jax.models.config import WorldModelConfig
from sas_jax.models.transition import SCALE_RANGE

_TORCH_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_LAYER_NORM_EPSILON = 1e-6  # flax's
_POSTERIOR_RANGE = (-7.0, 2.0)
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_REACH = 2


def load(module: nn.Module, params: Mapping) -> None:
    """Copies flax parameters into modules of the same names.

    Raises:
      ValueError: a parameter's shape differs, or some were not given.
    """
    missing = set(dict(module.named_parameters())) - _copy(module, params, "")
    if missing:
        raise ValueError(f"parameters that the other model lacks: {sorted(missing)}")


def _copy(module, tree, prefix):
    """Names of the parameters below `module` that `tree` has set."""
    done = set()
    for name, value in tree.items():
        if isinstance(value, Mapping):
            done |= _copy(getattr(module, name), value, f"{prefix}{name}.")
            continue
        own = _TORCH_NAMES.get(name, name)
        value = np.array(value, np.float32)
        value = torch.from_numpy(value.T if name == "kernel" else value)
        parameter = getattr(module, own)
        if parameter.shape != value.shape:
            raise ValueError(f"{prefix}{name}: {value.shape}, not {parameter.shape}")
        with torch.no_grad():
            parameter.copy_(value)
        done.add(prefix + own)
    return done


def gaussian_log_prob(x, mean, log_std):
    """Elementwise log N(x; mean, exp(log_std)^2)."""
    scaled = (x - mean) * torch.exp(-log_std)
    return -0.5 * scaled.square() - log_std - _HALF_LOG_TWO_PI


def layer_norm(width: int) -> nn.LayerNorm:
    """LayerNorm as flax has it."""
    return nn.LayerNorm(width, eps=_LAYER_NORM_EPSILON)


class MLP(nn.Module):
    """ReLU layers of the given widths, then a linear one."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int):
        super().__init__()
        sizes = (inputs, *hidden, outputs)
        for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
            self.add_module(f"Dense_{i}", nn.Linear(a, b))

    def forward(self, x):
        """x `[..., inputs]` -> `[..., outputs]`."""
        *hidden, last = self.children()
        for layer in hidden:
            x = functional.relu(layer(x))
        return last(x)


class Block(nn.Module):
    """Pre-norm causal attention and a ReLU feed-forward layer."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = layer_norm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.norm_feed_forward = layer_norm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x):
        """All tokens x `[P, n, D]` -> `[P, n, D]`."""
        normed = self.norm_attention(x)

        def by_head(y):
            return y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        key, value = self.key_value(normed).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(
            by_head(self.query(normed)), by_head(key), by_head(value), is_causal=True
        )
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        hidden = functional.relu(self.expand(self.norm_feed_forward(x)))
        return x + self.contract(hidden)


class Decoder(nn.Module):
    """The stack of blocks and its final LayerNorm."""

    def __init__(self, width: int, depth: int, num_heads: int):
        super().__init__()
        self.depth = depth
        for i in range(depth):
            self.add_module(f"blocks_{i}", Block(width, num_heads))
        self.norm = layer_norm(width)

    def forward(self, x, num_out: int = 1):
        """x `[P, n, D]` -> hidden states of the last tokens `[num_out, P, D]`."""
        for i in range(self.depth):
            x = getattr(self, f"blocks_{i}")(x)
        return self.norm(x[:, -num_out:]).transpose(0, 1)


class TransitionDecoder(nn.Module):
    """Mean and log-scale of the state's change; see `sas_jax.models.transition`."""

    def __init__(self, config: WorldModelConfig, spec: DataSpec):
        super().__init__()
        width, obs_dim = config.decoder.width, spec.obs_dim
        self.rings = spec.rings
        single = spec.ring_single or (False,) * len(spec.rings)
        self.cuts = [width, obs_dim, spec.action_dim, obs_dim]
        inputs = config.latent_dim + sum(self.cuts)
        bins = [first + i for first, size in self.rings for i in range(size)]
        others = [i for i in range(obs_dim) if i not in set(bins)]
        self.jumping = [i for i in range(len(self.rings)) if single[i]]
        self.parts = [len(others), obs_dim, 4 * len(self.jumping)]
        self.dense = MLP(inputs, config.vae_hidden, sum(self.parts))
        if not self.rings:
            return
        features, *hidden = bins.HIDDEN
        self.near = nn.Linear(2 * _REACH + 4, features)
        motion = config.latent_dim + 3 * len(others) + spec.action_dim + width
        self.motion = nn.Linear(motion, 3 * features)
        self.ego = nn.Linear(motion, 3)
        self.kind = nn.Parameter(torch.zeros(len(self.rings), 1, features))
        self.num_shared = len(hidden) + 1
        for i, (a, b) in enumerate(zip((features, *hidden), (*hidden, 9), strict=True)):
            self.add_module(f"Dense_{i}", nn.Linear(a, b))
        if self.jumping:
            self.reached_slope = nn.Parameter(torch.zeros(len(self.jumping)))
            self.reached_bias = nn.Parameter(torch.zeros(len(self.jumping)))
        self.register_buffer("bins", torch.tensor(bins))
        self.register_buffer("others", torch.tensor(others, dtype=torch.long))
        size = self.rings[0][1]
        angle = (torch.arange(size) + 0.5) * (2 * math.pi / size)
        self.register_buffer("turn", torch.stack([angle.cos(), angle.sin()])[..., None])
        scales = torch.tensor(spec.ring_scales)
        self.register_buffer("middle", scales[:, :1])
        self.register_buffer("unit", scales[:, 1:])
        self.register_buffer("single", torch.tensor(single)[:, None])

    def forward(self, latent, context):
        """latent `[..., Z]`, context `[..., C]` -> mean, log-scale `[..., O]`."""
        out = self.dense(torch.cat([latent, context], -1))
        mean, scale, jump = out.split(self.parts, dim=-1)
        if self.rings:
            ring = self._rings(latent, context, mean, jump)
            mean = torch.zeros_like(scale).index_copy(-1, self.others, mean)
            mean = mean.index_copy(-1, self.bins, ring[0])
            scale = scale.index_add(-1, self.bins, ring[1])
        return mean, SCALE_RANGE * torch.tanh(scale / SCALE_RANGE)

    def settle(self, obs):
        """obs `[..., O]` with one object in the lidars that never show two."""
        if not self.jumping:
            return obs
        here = self.middle + self.unit * self._by_ring(obs)
        readings = here.clamp(0.0, 1.0)
        seen = _read(readings, _place(readings), _brightest(readings).float())
        settled = (seen - self.middle) / self.unit
        settled = torch.where(self.single, settled, self._by_ring(obs))
        return obs.index_copy(-1, self.bins, settled.flatten(-2))

    def _by_ring(self, x):
        return x[..., self.bins].unflatten(-1, (len(self.rings), -1))

    def _rings(self, latent, context, plain, jump):
        z, obs, action, change = context.split(self.cuts, dim=-1)

        def neighbours(x, reach):
            shifts = range(-reach, reach + 1)
            return torch.stack([self._by_ring(x).roll(s, dims=-1) for s in shifts], -1)

        near = torch.cat([neighbours(obs, _REACH), neighbours(change, 1) / 0.1], -1)
        own = obs[..., self.others]
        motion = torch.cat([latent, own, own + plain, 5.0 * plain, action, z], -1)
        ego = 0.02 * self.ego(motion)[..., None, None, :]
        motion = self.motion(motion)[..., None, None, :]
        still, ahead, aside = motion.chunk(3, dim=-1)
        turned = still + self.turn[0] * ahead + self.turn[1] * aside
        x = functional.relu(self.near(near) + turned + self.kind)
        for i in range(self.num_shared - 1):
            x = functional.relu(getattr(self, f"Dense_{i}")(x))
        said = getattr(self, f"Dense_{self.num_shared - 1}")(x).unbind(-1)
        here = self.middle + self.unit * self._by_ring(obs)
        after = self._law(here.clamp(0.0, 1.0), said, ego)
        if self.jumping:
            after = self._jumped(after, jump)
        share = after / _around(after).clamp(min=5e-3)
        dark = torch.exp(-after / 0.015)
        scale = said[6] + share**8 * said[7] + dark * said[8]
        return ((after - here) / self.unit).flatten(-2), scale.flatten(-2)

    def _law(self, readings, said, ego):
        """What is read after a step; see `sas_jax.models.lidar`."""
        size = readings.shape[-1]
        width = 2.0 * math.pi / size
        place = (_place(readings) + 0.3 * said[2]).clamp(0.0, 1.0)
        angle = (torch.arange(size) + place) * width
        cos, sin = angle.cos(), angle.sin()
        turn, ahead, aside = ego.unbind(-1)
        along = 3.0 * (1.0 - readings) + 0.01 * said[3] - (ahead * cos + aside * sin)
        along = along.clamp(min=0.05)
        across = 0.01 * said[4] + ahead * sin - aside * cos
        place = place + (torch.arctan(across / along) - turn) / width
        is_own = (readings > 1e-3) & (readings >= _around(readings) - 1e-6)
        kept, found = (1.2 + said[5]).clamp(0.0, 1.0), torch.sigmoid(said[5] - 3.0)
        presence = torch.where(is_own, kept, found)
        presence = torch.where(self.single, _brightest(readings).float(), presence)
        shown = (1.0 - torch.hypot(along, across) / 3.0).clamp(0.0, 1.0)
        moved = _read(shown, place, presence)
        peak = _around(moved) + 0.025 * functional.softplus(4.0 * said[1] - 4.0)
        share = ((moved + 0.1 * said[0]) / peak.clamp(min=5e-3)).clamp(0.0, 1.0)
        share = share / _around(share).clamp(min=0.8)
        return torch.where(self.single, moved, (peak * share).clamp(max=1.0))

    def _jumped(self, readings, jump):
        size = readings.shape[-1]
        odds, away, y, x = jump.unflatten(-1, (-1, 4)).unbind(-1)
        angle = torch.atan2(y, 1.0 + x) * (size / (2.0 * math.pi))
        offset = (angle[..., None] - torch.arange(size) + 1.0) % size - 1.0
        there = _share(offset) * (1.0 - torch.sigmoid(away))[..., None]
        here = readings[..., self.jumping, :]
        reached = 400.0 * (self.reached_slope * here.amax(-1) + self.reached_bias)
        there = torch.sigmoid(8.0 * odds + reached)[..., None] * (there - here)
        where = torch.tensor(self.jumping)
        return readings.index_add(-2, where, there)


def _around(x):
    return torch.maximum(x, torch.maximum(x.roll(1, -1), x.roll(-1, -1)))


def _place(readings):
    bright = readings.clamp(min=1e-3)
    least = 1.0 - (readings.roll(1, -1) / bright).clamp(max=1.0)
    return 0.5 * (least + (readings.roll(-1, -1) / bright).clamp(max=1.0))


def _brightest(readings):
    return readings >= readings.amax(-1, keepdim=True) - 1e-6


def _read(shown, place, presence):
    turned = [
        (shown * presence * _share(place - bins)).roll(bins, -1)
        for bins in range(-_REACH, _REACH + 1)
    ]
    return torch.stack(turned).amax(0)


def _share(offset):
    """What an object shows in a bin, by its angle from the bin's start in bins."""
    return torch.minimum(1.0 + offset, 2.0 - offset).clamp(0.0, 1.0)


class GaussianVAE(nn.Module):
    """Encoder and decoder; see `sas_jax.models.vae`."""

    def __init__(self, encoder: MLP, decoder: nn.Module, floor: float):
        super().__init__()
        self.encoder, self.decoder, self.floor = encoder, decoder, floor

    def decode(self, latent, context):
        """latent `[..., Z]`, context `[..., C]` -> mean, log-scale `[..., X]`."""
        if isinstance(self.decoder, TransitionDecoder):
            return self.decoder(latent, context)
        mean = self.decoder(torch.cat([latent, context], -1))
        return mean, torch.zeros_like(mean)

    def log_density(self, x, context, noise, log_std, active):
        """The importance-weighted bound `[...]`; noise `[n, ..., Z]`."""
        mean, posterior = self.encoder(torch.cat([x, context], -1)).chunk(2, dim=-1)
        posterior = posterior.clamp(*_POSTERIOR_RANGE)
        latent = mean + posterior.exp() * noise
        context = context.expand(*latent.shape[:-1], context.shape[-1])
        decoded, log_scale = self.decode(latent, context)
        total = (log_std + log_scale).clamp(min=math.log(self.floor))
        likelihood = gaussian_log_prob(x, decoded, total)
        prior = gaussian_log_prob(latent, 0.0, torch.zeros(()))
        log_weight = (
            torch.where(active, likelihood, 0.0).sum(-1)
            + prior.sum(-1)
            - gaussian_log_prob(latent, mean, posterior).sum(-1)
        )
        return log_weight.logsumexp(0) - math.log(noise.shape[0])


class NoisyOr(nn.Module):
    """Log-odds that any one input causes the event; see `sas_jax.models.networks`."""

    gain = 400.0

    def __init__(self, size: int, rings: tuple[tuple[int, int], ...]):
        super().__init__()
        first_of = {first + i: first for first, length in rings for i in range(length)}
        firsts = [first_of.get(i, i) for i in range(size)]
        numbers = {first: n for n, first in enumerate(sorted(set(firsts)))}
        self.slope = nn.Parameter(torch.zeros(2, len(numbers)))
        self.bias = nn.Parameter(torch.zeros(2, len(numbers)))
        self.register_buffer("kinds", torch.tensor([numbers[f] for f in firsts]))

    def forward(self, x):
        """x `[..., n]` -> `[...]`."""
        slope, bias = self.slope[:, self.kinds], self.bias[:, self.kinds]
        causes = self.gain * (torch.stack([x, -x], -2) * slope + bias)
        total = functional.softplus(causes, threshold=1e4).sum((-2, -1))
        return total + torch.log(-torch.expm1(-total.clamp(min=1e-6)))

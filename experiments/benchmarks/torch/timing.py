"""Imagination in JAX beside the PyTorch loop: same outputs first, then the clock."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import common, imagination_timing, model_cases
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, make_model
from sas_jax.gaussian import split_keys
from sas_jax.learners import sequence
from sas_jax.models.vae import decoder_log_std

OURS, ONE, BATCHED = "jax, one program", "torch, one at a time", "torch, batched"
TRUNCATED = "torch, one at a time, energy by truncation"
PUBLIC = "torch, the public code's model and passes"
# What a row computes for every step of a trajectory.
WORK = {
    OURS: "cached keys, one new step; heads and density at the new step",
    ONE: "2 passes over up to K steps, fused attention; heads and density at the last",
    BATCHED: "as one at a time, all trajectories in one pass",
    TRUNCATED: "as one at a time, and 2 passes over K - 1, K - 2 steps with densities",
    PUBLIC: "3 padded passes over K, K - 1, K - 2 steps, attention by hand, linear "
    "heads at all tokens; no VAE, no cost",
}
# Largest difference, relative to 1 + |value|, at which both do the same work.
TOLERANCE = 1e-4
_TRAJECTORIES = 4


def require():
    """The module `torch`; UserError names the extra where it is missing."""
    try:
        import torch
    except ImportError:
        raise UserError(
            "this benchmark needs PyTorch, which is not installed: pip install "
            "'.[torch]'"
        ) from None
    return torch


def check_supported(config: ExperimentConfig) -> None:
    """UserError for a setting that the PyTorch model does not have."""
    wrong = {
        "algo": config.has_cost_token,
        "sas.density": config.sas.density != "transition",
        "model.decoder.dtype": config.model.decoder.dtype != "float32",
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise UserError(f"{name}: the PyTorch model has the paper's DT's value only")


def lively_variables(config: ExperimentConfig, spec: DataSpec) -> dict:
    """Random variables with outputs of order one, for the comparison of values.

    Those of `model_cases.make_variables` are so small that errors would not show.
    """
    rng = np.random.default_rng(4)

    def fill(path, leaf):
        name = path[-1].key
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        if name == "scale":
            return jnp.asarray(1.0 + 0.1 * noise)
        if any(getattr(part, "key", "") == "cost_head" for part in path):
            # Causes of log-odds about -6, so that the cost lies between 0 and 1.
            return jnp.asarray((noise - 6.0 * (name == "bias")) / 400.0)
        if name == "kernel":
            return jnp.asarray(noise / np.sqrt(leaf.shape[0]))
        return jnp.asarray(0.1 * noise)

    variables = model_cases.make_variables(config, spec)
    params = jax.tree_util.tree_map_with_path(fill, variables["params"])
    variances = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.05, 0.5, x.shape), x.dtype),
        variables["variances"],
    )
    return {"params": params, "variances": variances}


def _histories(config, spec):
    """Random steps `[P, K + 1, ...]` and the noise of every prediction."""
    rng, context = np.random.default_rng(5), config.model.decoder.context
    shape = (_TRAJECTORIES, context)

    def normal(*sizes):
        return rng.standard_normal(sizes).astype(np.float32)

    samples = config.sas.num_importance
    return {
        "obs": normal(_TRAJECTORIES, context + 1, spec.obs_dim),
        "action": rng.uniform(-1, 1, (*shape, spec.action_dim)).astype(np.float32),
        "return_to_go": 20.0 + 5.0 * normal(_TRAJECTORIES, context + 1),
        "latent": normal(*shape, config.model.latent_dim),
        "obs_noise": normal(*shape, spec.obs_dim),
        "density_noise": normal(context, samples, shape[0], config.model.latent_dim),
        "first_noise": normal(samples, shape[0], config.model.marginal_latent_dim),
    }


def _jax_outputs(config, spec, variables, steps):
    """What our ring says along the histories: name -> `[K, P, ...]`."""
    model, networks = (
        sequence.make_sequence_model(config, spec),
        make_model(config, spec),
    )
    log_stds = {
        kind: decoder_log_std(variance, floor=config.model.decoder_floor)
        for kind, variance in variables["variances"].items()
    }

    def apply(method, *args):
        return networks.apply({"params": variables["params"]}, *args, method=method)

    @jax.jit
    def step(state, action, latent, obs_noise, density_noise):
        observed = model.observe(variables, state, None)
        after, prediction = model.foresee(variables, state, observed, action, None)
        z, obs, *_ = prediction
        log_std = log_stds["transition"]
        next_obs = apply("next_obs", *prediction, latent, obs_noise, log_std)
        return after, {
            "mean": observed.mean,
            "log_std": observed.log_std,
            "obs": next_obs,
            "return_to_go": apply(
                "next_return",
                z,
                obs,
                action,
                next_obs,
                state.return_to_go / spec.return_scale,
            ),
            "cost": jax.nn.sigmoid(apply("cost_logit", next_obs)),
            "log_density": apply(
                "transition_log_density", *prediction, next_obs, density_noise, log_std
            ),
        }

    tokens, obs = steps["return_to_go"], steps["obs"]
    raw = obs[:, 0] * spec.obs_std + spec.obs_mean
    keys = split_keys(jax.random.key(0), _TRAJECTORIES)
    first = (raw, tokens[:, 0], tokens[:, 0], model.context)
    state, found = model.start(variables, keys, *first), []
    for t in range(model.context):
        noise = (steps["latent"][:, t], steps["obs_noise"][:, t])
        after, out = step(
            state, steps["action"][:, t], *noise, steps["density_noise"][t]
        )
        state = after.replace(obs=obs[:, t + 1], return_to_go=tokens[:, t + 1])
        found.append(out)
    found = {name: np.stack([out[name] for out in found]) for name in found[0]}
    first = (obs[:, 0], steps["first_noise"], log_stds["marginal"])
    return found | {
        "first_log_density": np.asarray(apply("marginal_log_density", *first))
    }


def _torch_outputs(torch, spec, model, steps):
    """The same of the PyTorch model, every step from its whole history."""
    steps = {name: torch.from_numpy(x) for name, x in steps.items()}
    tokens, found = steps["return_to_go"] / spec.return_scale, []
    with torch.inference_mode():
        for t in range(steps["action"].shape[1]):
            obs, seen = steps["obs"][:, t], slice(0, t + 1)
            action = steps["action"][:, t]
            history = (
                steps["obs"][:, seen],
                steps["action"][:, seen],
                tokens[:, seen],
                torch.arange(t + 1),
            )
            z = model.hidden(*history, has_action=False)
            mean, log_std = model.action_distribution(z, obs, tokens[:, t], t)
            after = model.predict(
                model.hidden(*history, has_action=True),
                obs,
                obs - steps["obs"][:, t - 1] if t else torch.zeros_like(obs),
                action,
                tokens[:, t],
                steps["latent"][:, t],
                steps["obs_noise"][:, t],
                steps["density_noise"][t],
            )
            found.append({"mean": mean, "log_std": log_std, **after._asdict()})
        first = model.first_log_density(steps["obs"][:, 0], steps["first_noise"])
    out = {name: np.stack([x[name].numpy() for x in found]) for name in found[0]}
    return out | {"first_log_density": first.numpy()}


def differences(
    config: ExperimentConfig, spec: DataSpec, variables: dict, model
) -> dict[str, float]:
    """Largest differences of the two models' outputs on random histories.

    Histories of 1 to K steps, where both compute the same; relative to 1 + |value|.
    model: the `TorchWorldModel` that holds `variables`.
    """
    steps = _histories(config, spec)
    ours = _jax_outputs(config, spec, variables, steps)
    theirs = _torch_outputs(require(), spec, model, steps)
    return {
        name: float(np.max(np.abs(x - theirs[name]) / (1.0 + np.abs(x))))
        for name, x in ours.items()
    }


def require_equal(found: dict[str, float]) -> None:
    """UserError unless every difference is below `TOLERANCE`; NaN is not."""
    for name, value in found.items():
        if not value < TOLERANCE:
            raise UserError(
                f"{name}: the PyTorch model differs from ours by {value:.1e}, expected "
                f"less than {TOLERANCE:g}; nothing was timed"
            )


def torch_case(
    config, spec, model, *, count, horizon, together=False, truncations=0
) -> common.Case:
    """`count` trajectories of `horizon` steps, one after another or `together`."""
    torch = require()
    from experiments.benchmarks.torch import world_model

    obs = model_cases.make_observations(spec, count)
    obs = torch.from_numpy((obs - spec.obs_mean) / spec.obs_std)
    tokens = torch.full((count,), 20.0 / spec.return_scale)
    size = count if together else 1
    generator = torch.Generator()

    def run():
        generator.manual_seed(1)
        for i in range(0, count, size):
            world_model.imagine(
                model,
                obs[i : i + size],
                tokens[i : i + size],
                horizon=horizon,
                num_importance=config.sas.num_importance,
                decoder_noise=config.sas.decoder_noise,
                generator=generator,
                truncations=truncations,
            )

    return common.timed(run)


def public_case(config, spec, *, count, horizon) -> common.Case:
    """The public code's model and passes, one trajectory after another."""
    torch = require()
    from experiments.benchmarks.torch import public as torch_public

    model = torch_public.PublicModel(
        config.model.decoder, spec.obs_dim, spec.action_dim
    )
    obs = model_cases.make_observations(spec, count)
    obs = torch.from_numpy((obs - spec.obs_mean) / spec.obs_std)
    tokens = torch.full((count,), 20.0 / spec.return_scale)

    def run():
        for i in range(count):
            torch_public.imagine(
                model, obs[i : i + 1], tokens[i : i + 1], horizon=horizon
            )

    return common.timed(run)


def measure(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    count: int,
    horizon: int,
    torch_horizon: int,
    repeats: int,
    clock: str,
    threads: int,
) -> tuple[list[dict], dict[str, float]]:
    """Rows of the five cases, and the differences that were found before.

    torch_horizon: T of both PyTorch loops; speeds are per trajectory-step.
    """
    torch = require()
    from experiments.benchmarks.torch.world_model import TorchWorldModel

    torch.set_num_threads(threads)
    found = {}
    variables = model_cases.make_variables(config, spec)
    # A reward's unit is small beside the return's: errors would not show in it.
    lively = dataclasses.replace(spec, reward_std=spec.return_scale)
    for own, values in (
        (spec, variables),
        (lively, lively_variables(config, spec)),
    ):
        model = TorchWorldModel(config.model, own, values)
        seen = differences(config, own, values, model)
        found = {name: max(x, found.get(name, 0.0)) for name, x in seen.items()}
        require_equal(seen)
    model = TorchWorldModel(config.model, spec, variables)
    cases = {
        OURS: imagination_timing.flat_case(
            config,
            spec,
            variables,
            density=config.sas.density,
            count=count,
            horizon=horizon,
        )
    }
    shape = {"count": count, "horizon": torch_horizon}
    for name, kwargs in (
        (ONE, {}),
        (BATCHED, {"together": True}),
        (TRUNCATED, {"truncations": 2}),
    ):
        cases[name] = torch_case(config, spec, model, **kwargs, **shape)
    cases[PUBLIC] = public_case(config, spec, **shape)
    samples = common.interleave(cases, repeats, "imagination")
    rows = []
    for name, runs in samples.items():
        steps = horizon if name == OURS else torch_horizon
        scale = horizon / steps
        factors = common.ratios(runs, samples[OURS], clock)
        rows.append(
            {
                "case": name,
                "work": WORK[name],
                "trajectories": count,
                "horizon": steps,
                "seconds": common.seconds(runs),
                "microseconds_a_step": common.spread(
                    [1e6 * getattr(run, clock) / (count * steps) for run in runs]
                ),
                "ratio": common.spread([scale * factor for factor in factors]),
            }
        )
    return rows, found

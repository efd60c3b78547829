"""The comparison with a PyTorch loop: the same outputs first, then the clock."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks.torch import timing as torch_timing
from sas_jax.errors import UserError
from tests.benchmarks.test_benchmarks import ROOT, SMALL
from tests.helpers.model_fixtures import make_config


def test_without_torch_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # then `import torch` fails
    with pytest.raises(UserError, match=r"pip install '\.\[torch\]'") as error:
        torch_timing.require()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("difference", [2e-4, np.nan, np.inf])
def test_models_that_differ_are_not_timed(difference):
    torch_timing.require_equal({"mean": 1e-6, "obs": 9e-5})
    with pytest.raises(UserError, match="obs.*nothing was timed"):
        torch_timing.require_equal({"mean": 1e-6, "obs": difference})


@pytest.mark.parametrize(
    "changed, culprit",
    [
        ({"algo": "cdt"}, "algo"),
        ({"sas": {"density": "marginal"}}, "sas.density"),
        ({"decoder": {"dtype": "bfloat16"}}, "model.decoder.dtype"),
    ],
)
def test_settings_that_torch_lacks_are_refused(changed, culprit):
    torch_timing.check_supported(make_config())
    with pytest.raises(UserError, match=culprit):
        torch_timing.check_supported(make_config(**changed))


@pytest.fixture(scope="module")
def compared():
    """A tiny model of PointGoal1's sizes: config, spec, variables, PyTorch's model."""
    pytest.importorskip("torch")
    from experiments.benchmarks.torch.world_model import TorchWorldModel

    config = make_config(sas={"num_importance": 2})
    spec = _spec(config)
    variables = torch_timing.lively_variables(config, spec)
    return config, spec, variables, TorchWorldModel(config.model, spec, variables)


def _spec(config):
    """Statistics other than 0 and 1, and a constant dimension."""
    from experiments.benchmarks import model_cases

    spec = model_cases.make_spec(config)
    rng = np.random.default_rng(0)
    return dataclasses.replace(
        spec,
        obs_mean=rng.standard_normal(spec.obs_dim).astype(np.float32),
        obs_std=rng.uniform(0.5, 2.0, spec.obs_dim).astype(np.float32),
        obs_active=np.arange(spec.obs_dim) != 1,
        reward_std=spec.return_scale,
    )


def test_both_models_say_the_same(compared):
    found = torch_timing.differences(*compared)
    assert {"mean", "obs", "cost", "return_to_go", "log_density"} < set(found)
    # An object's place is a quotient of readings down to a thousandth.
    assert max(found.values()) < torch_timing.TOLERANCE


@pytest.mark.parametrize(
    "part, seen",
    [
        ("decoder.blocks_1.key_value", {"mean", "obs"}),
        ("policy.Dense_1", {"mean"}),
        ("transition.decoder.Dense_1", {"obs", "log_density"}),
        ("transition.encoder.Dense_0", {"log_density"}),
        ("marginal.decoder.Dense_0", {"first_log_density"}),
        ("reward_head.Dense_0", {"return_to_go"}),
        ("cost_head", {"cost"}),
    ],
)
def test_a_changed_parameter_shows(compared, part, seen):
    import torch

    config, spec, variables, model = compared
    module = model.get_submodule(part)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with torch.no_grad():
        module.bias.mul_(0.5).add_(0.01)
    found = torch_timing.differences(config, spec, variables, model)
    module.load_state_dict(before)
    assert seen <= {k for k, v in found.items() if v > torch_timing.TOLERANCE}


def test_parameters_of_another_size_are_refused(compared):
    from experiments.benchmarks.torch.model import MLP, load

    params = compared[2]["params"]["policy"]
    sizes = (params["Dense_0"]["kernel"].shape[0], (16,))
    load(MLP(*sizes, 4), params)
    with pytest.raises(ValueError, match="Dense_1"):
        load(MLP(*sizes, 5), params)
    with pytest.raises(ValueError, match="lacks.*Dense_2"):
        load(MLP(sizes[0], (16, 4), 4), params)


def test_a_density_from_an_uncut_history_is_the_step_s_own(compared):
    import torch

    config, spec, _, model = compared
    rng = np.random.default_rng(1)

    def normal(*shape):
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    length, latents = 3, config.model.latent_dim
    history = (
        normal(2, length, spec.obs_dim),
        normal(2, length, spec.action_dim).clamp(-1.0, 1.0),
        normal(2, length),
        torch.arange(length),
    )
    obs, action, target = (x[:, -1] for x in history[:3])
    change, noise = normal(2, spec.obs_dim), normal(2, 2, latents)
    with torch.inference_mode():
        z = model.hidden(*history, has_action=True)
        after = model.predict(
            z, obs, change, action, target, noise[0], normal(2, spec.obs_dim), noise
        )
        z = model.hidden(*history, has_action=False)
        mean, log_std = model.action_distribution(z, obs, target, length - 1)
        seen = (history, action, obs, change, after.obs, noise, action, length - 1)
        found = model.truncated_density(*seen)
    std = log_std.exp()
    log_prob = torch.distributions.Normal(mean, std).log_prob(action).sum(-1)
    np.testing.assert_allclose(found, log_prob + after.log_density, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_the_public_code_s_form_imagines(compared, count):
    """Three passes see three context lengths; batches leave a trajectory as it is."""
    import torch

    from experiments.benchmarks.torch import public as torch_public

    config, spec = compared[:2]
    model = torch_public.PublicModel(config.model.decoder, spec.obs_dim, 2)
    obs = torch.linspace(-1.0, 1.0, count * spec.obs_dim).reshape(count, -1)
    tokens, seen = torch.full((count,), 0.5), []
    model.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[1]))
    out = torch_public.imagine(model, obs, tokens, horizon=4)
    context = config.model.decoder.context
    assert seen == 4 * [context, context - 1, context - 2]
    assert out["action"].shape == (count, 4, 2)
    np.testing.assert_array_equal(out["obs"][:, 0], obs)
    assert all(torch.isfinite(x).all() for x in out.values())
    alone = torch_public.imagine(model, obs[:1], tokens[:1], horizon=4)
    for name, x in alone.items():
        np.testing.assert_allclose(out[name][:1], x, atol=1e-5)


@pytest.mark.slow
def test_torch_loop(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "torch_loop.json"
    flags = ["--trajectories=2", "--horizon=9", "--torch_horizon=8", f"--out={out}"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.torch.loop", *SMALL, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "PyTorch imagined 8 steps, not 9" in done.stdout
    content = json.loads(out.read_text())
    ours, *others = content["rows"]
    assert [row["horizon"] for row in content["rows"]] == [9, 8, 8, 8, 8]
    assert [bool(row["target"]) for row in others] == [True, True, False, False]
    assert ours["ratio"]["median"] == 1.0
    for row in others:
        per_step = row["microseconds_a_step"]["median"]
        assert row["ratio"]["median"] == pytest.approx(
            per_step / ours["microseconds_a_step"]["median"]
        )
    assert content["settings"]["torch_horizon"] == 8
    assert max(content["differences"].values()) < torch_timing.TOLERANCE

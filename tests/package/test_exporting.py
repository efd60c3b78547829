"""From a checkpoint to a policy in a loop, and to a file that JAX alone runs."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import sas_jax
from sas_jax import checkpoint
from sas_jax.errors import UserError
from tests.helpers.model_fixtures import make_config, make_episodes, make_spec
from tests.package.test_docs import some_state

SCRIPT = Path(__file__).resolve().parents[1] / "helpers" / "run_exported.py"
OBS, STEPS = 5, 3
needs_export = pytest.mark.skipif(
    importlib.util.find_spec("flatbuffers") is None, reason="the extra export is absent"
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = make_config(
        decoder={"depth": 1, "context": 4},
        sas={"num_first": 2, "num_second": 2, "horizon": 4, "prompt_length": 2},
    )
    spec = make_spec(make_episodes())
    writer = checkpoint.Writer(folder, config, spec)
    writer.save(0, some_state(config, spec))
    writer.close()
    return folder


@pytest.mark.slow
def test_a_checkpoint_acts_with_its_own_targets(workdir):
    policy = sas_jax.AlignedPolicy.from_checkpoint(workdir, variant="none")
    spec = checkpoint.load(workdir).spec
    assert policy.targets == (pytest.approx(spec.target_return), 20.0)
    obs = np.zeros(OBS, np.float32)
    policy.reset(obs, seed=5)
    own = policy.act(obs)
    policy.reset(obs, seed=5, target_return=spec.target_return, cost_limit=20.0)
    np.testing.assert_array_equal(policy.act(obs), own)
    policy.reset(obs, seed=5, target_return=spec.target_return + 30.0)
    assert (policy.act(obs) != own).any()
    with pytest.raises(UserError, match="obs of size 3: expected 5"):
        policy.reset(np.zeros(3))
    with pytest.raises(UserError, match="did you mean 'sas'"):
        sas_jax.AlignedPolicy.from_checkpoint(workdir, variant="saas")
    with pytest.raises(UserError, match="target_return is nan"):
        sas_jax.AlignedPolicy.from_checkpoint(workdir, target_return=np.nan)


@needs_export
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["none", "sas"])
def test_an_exported_policy_acts_as_ours_in_another_process(workdir, tmp_path, variant):
    loaded = sas_jax.load_policy(workdir, variants=(variant,))
    path = sas_jax.export_policy(loaded, tmp_path / "policy.zip", episodes=2)
    assert sorted(zipfile.ZipFile(path).namelist())[0] == "about.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, path, str(STEPS)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    actions, modules = json.loads(done.stdout.splitlines()[-1])
    assert modules == []
    policy = sas_jax.AlignedPolicy.from_checkpoint(workdir, variant=variant)
    obs = np.zeros((2, OBS), np.float32)
    policy.reset(obs, seed=5)
    for step in range(STEPS):
        now = obs + np.float32(0.01 * step)
        own = policy.act(now, reward=1.0, cost=0.0)
        np.testing.assert_allclose(np.asarray(actions[step]), own, atol=1e-6)


@needs_export
def test_what_cannot_be_exported_is_told(workdir, tmp_path):
    loaded = sas_jax.load_policy(workdir, variants=("none",))
    with pytest.raises(UserError, match="episodes must be >= 1, got 0"):
        sas_jax.export_policy(loaded, tmp_path / "a.zip", episodes=0)
    with pytest.raises(UserError, match="platforms: nonsense; expected some of cpu"):
        sas_jax.export_policy(loaded, tmp_path / "a.zip", platforms=("nonsense",))
    numpy_policy = sas_jax.from_host(lambda obs: obs[:, :2], (2,))

    def act(variables, carry, ts, key):
        return jax.vmap(lambda o: numpy_policy(None, o))(ts.obs), carry

    host = loaded._replace(policy=loaded.policy._replace(act=act))
    with pytest.raises(UserError, match="cannot be exported"):
        sas_jax.export_policy(host, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []

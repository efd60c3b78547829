"""Checkpoints behind gs://: Orbax, and TensorStore's own client, at a fake server."""

import os
import subprocess
import sys

import pytest

from tests.helpers.dsrl_samples import ROOT

SCRIPT = """
import os
import jax
import numpy as np

from sas_jax import checkpoint
from sas_jax.errors import UserError
from sas_jax.training.curves import Curve
from sas_jax.files.places import SCHEMES, as_path
from tests.helpers import bucket
from tests.helpers.model_fixtures import make_spec
from tests.package.test_checkpoint import CONFIG, make_state, plain

SCHEMES["gs"] = ()  # the clients are the test's own
URL = "gs://bucket/runs/pg1"
with bucket.serving() as content:
    spec = make_spec()
    writer = checkpoint.Writer(URL, CONFIG, spec)
    assert writer.resume(checkpoint.abstract_state(CONFIG, spec)) is None
    states = {step: make_state(spec, seed=step) for step in (10, 20, 30)}
    for step, state in states.items():
        writer.save(step, state, {"a": step})
    writer.close()
    loaded = checkpoint.load(URL)
    assert loaded.step == 30 and loaded.card == {"a": 30}
    same = jax.tree.map(np.array_equal, plain(loaded.state), plain(states[30]))
    assert jax.tree.all(same)
    # CONFIG keeps two.
    assert [step for step, _ in checkpoint.list_steps(URL)] == [20, 30]
    writer = checkpoint.Writer(URL, CONFIG, spec)
    resumed = writer.resume(checkpoint.abstract_state(CONFIG, spec))
    assert resumed.step == 30
    assert jax.tree.all(
        jax.tree.map(np.array_equal, plain(resumed.state), plain(states[30]))
    )
    writer.close()
    for step in (20, 30):
        path = as_path(URL) / "metrics.csv"
        Curve(path, step).add([{"step": step, "seed": 0, "x": 1}])
    assert content["bucket/runs/pg1/metrics.csv"][0].count(b"\\n") == 3
    try:
        checkpoint.load("gs://bucket/none")
    except UserError as error:
        assert "no folder 'checkpoints'" in str(error)
    assert not [name for name in os.listdir() if name.startswith("gs")]
    print("done", len(content))
"""


@pytest.mark.slow
def test_a_run_in_a_bucket(tmp_path):
    """A process of its own: TensorStore reads once where the server is."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("done")

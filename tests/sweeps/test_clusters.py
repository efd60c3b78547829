"""Engines of clusters, as far as one machine has them."""

import threading
import time
from pathlib import Path

import pytest

from sas_jax.files.results import read_results
from sas_jax.sweeps import engines
from sas_jax.sweeps.plan import from_values
from sas_jax.sweeps.sweep import Sweep
from tests.helpers import short_goal

MODULE = "tests.helpers.short_goal_registered"


@pytest.fixture(scope="module")
def plan():
    with short_goal.registered() as task:
        yield from_values(
            {
                "tasks": [task],
                "seeds": [0, 1],
                "layouts": 3,
                "cost_limits": [20],
                "data": {"episodes": 6},
                "methods": [
                    {
                        "algo": "bc",
                        "settings": {
                            "train.num_steps": 400,
                            "train.batch_rows": 16,
                            "train.chunk": 20,
                            "train.checkpoint_every": 20,
                            "model.hidden": [16],
                        },
                    }
                ],
            }
        )


def swept(plan, folder, engine, **resources):
    sweep = Sweep(plan.cells(), folder, modules=[MODULE])
    with sweep.alone():
        sweep.run(engines.get(engine), engines.Resources(**resources))
    assert [s.error for s in sweep.standings] == ["", ""]
    return read_results(folder / "results.csv")


@pytest.fixture(scope="module")
def here(plan, tmp_path_factory):
    """Rows of the local engine."""
    return swept(plan, tmp_path_factory.mktemp("local"), "local")


@pytest.mark.slow
def test_a_cell_goes_on_at_another_node_when_its_own_is_lost(plan, here, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    seen = {}

    def steps():
        found = tmp_path.glob("models/*.0.*/checkpoints/*")
        return [int(path.name) for path in found if path.name.isdigit()]

    def node_of_the_cell():
        """The node that has started the process which holds the cell's lock."""
        lock = next(tmp_path.glob("cells/*.0.*/.a cell.lock")).read_text()
        status = Path(f"/proc/{lock.split()[1]}/status").read_text()
        parent = int(status.split("PPid:")[1].split()[0])
        started = {n.all_processes["raylet"][0].process.pid: n for n in nodes}
        return started[parent]

    def lose_the_node():
        while not steps() or max(steps()) < 60:
            time.sleep(0.05)
        cluster.remove_node(node_of_the_cell(), allow_graceful=False)
        seen["lost at"] = max(steps())
        curves = next(tmp_path.glob("models/*.0.*/metrics.csv")).read_text()
        seen["curves"] = curves.splitlines()[:3]

    thief = threading.Thread(target=lose_the_node, daemon=True)
    thief.start()
    try:
        rows = swept(plan, tmp_path, "ray", cores=1)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert 60 <= seen["lost at"] < 400
    assert rows == here
    # It went on, and did not begin anew: curves have every checkpoint once, and the
    # first ones with the speed that they had at the node that is gone.
    curves = next(tmp_path.glob("models/*.0.*/metrics.csv")).read_text()
    lines = curves.splitlines()
    assert lines[:3] == seen["curves"] and "steps_per_second" in lines[0]
    steps_made = [int(float(line.split(",")[0])) for line in lines[1:]]
    assert steps_made == list(range(20, 401, 20))


@pytest.mark.slow
def test_slurms_jobs_give_the_same_table(plan, here, tmp_path):
    pytest.importorskip("submitit")
    assert swept(plan, tmp_path, "slurm", address="local", cores=1) == here

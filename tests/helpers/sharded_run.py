"""Trains a tiny model on all devices, of this process or of several hosts.

Run as a script: WORKDIR DEVICES [COORDINATOR PROCESSES ID].
"""

import sys

from sas_jax.training import devices as training_devices
from sas_jax.training import fit as training_fit
from tests.helpers.model_fixtures import make_config, make_episodes

LENGTHS = (8, 14, 14, 8, 14, 8)


def config_of(devices, **settings):
    """DT with dropout and input noise: what is drawn must not depend on devices."""
    base = {
        "num_steps": 12,
        "batch_rows": 8,
        "chunk": 3,
        "checkpoint_every": 3,
        "learning_rate": 1e-3,
        "devices": devices,
    }
    return make_config(decoder={"depth": 1}, train=base | settings)


def card(config, spec, state, held_out):
    """What a card gets is on this process's own device."""
    assert state.step.is_fully_addressable
    return {"step": int(state.step), "episodes": held_out.num_episodes}


if __name__ == "__main__":
    workdir, devices, *hosts = sys.argv[1:]
    if hosts:
        training_devices.start_hosts(hosts[0], *map(int, hosts[1:]))
    result = training_fit.fit(
        config_of(int(devices)), make_episodes(LENGTHS), workdir, make_card=card
    )
    print(result.step, result.card["step"], float(result.state.step[0]))

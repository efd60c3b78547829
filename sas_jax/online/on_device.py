"""Where the lanes act when environments are JAX programs: all in one with the updates.

Its twin for environments in processes is `on_host`.
"""

from collections.abc import Callable
from typing import Protocol

import jax

from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.online import chunk as chunk_lib
from sas_jax.online.worlds import World


class Runner(Protocol):
    """Environments and buffer of a run; the loop of `fit` needs no more."""

    def abstract(self) -> World:
        """Shapes of a world, without making one."""

    def begin(self) -> World:
        """The world after its first `start_steps`, of random actions."""

    def go_on(self, world: World) -> None:
        """Brings the environments to where a saved world stands."""

    def chunk(self, num_updates: int) -> Callable:
        """`(states [U], world) -> (states, world, mean metrics [U])`."""

    def close(self) -> None:
        """Releases what runs. Safe to call twice."""


class DeviceRunner:
    """See `Runner`: a world is all that there is."""

    def __init__(self, config: ExperimentConfig, spec: DataSpec, env: JaxEnv) -> None:
        """Nothing is compiled yet."""
        self._setting = config, spec, env

    def abstract(self) -> World:
        """See `Runner`."""
        return jax.eval_shape(lambda: chunk_lib.begin(*self._setting))

    def begin(self) -> World:
        """See `Runner`."""
        return jax.jit(lambda: chunk_lib.begin(*self._setting))()

    def go_on(self, world: World) -> None:
        """Nothing to bring anywhere."""

    def chunk(self, num_updates: int) -> Callable:
        """See `Runner`; one program, both arguments donated."""
        return chunk_lib.make_chunk(*self._setting, num_updates)

    def close(self) -> None:
        """Nothing to release."""

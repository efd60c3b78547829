"""What to record, and what identifies a recording."""

import dataclasses
import importlib.metadata
import json

from sas_jax.data.behaviours import dials as behaviours_dials
from sas_jax.data.behaviours import given
from sas_jax.envs import gymnasium_tasks, tasks
from sas_jax.envs import shift as shifts
from sas_jax.errors import UserError

# Numerics come from these; a part recorded with others is not the same episode.
_SIMULATOR = ("safety-gymnasium", "mujoco", "numpy")
_IN_JAX, _CRAX = ("jax", "numpy"), ("crax-bench", "mujoco", "mujoco-mjx")
# What a header has; the optional fields only where they differ from the first ones.
_ALWAYS = ("task", "collection_seed", "behaviour_version", "simulator")
_OPTIONAL = ("mixture", "shift", "policy", "on_device")
FIELDS = _ALWAYS + _OPTIONAL


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to record.

    task: name of a task; without `policy`, of one with a scripted behaviour.
    episodes: how many.
    seed: of layouts, behaviours and noise.
    mixture: how the behaviours' dials are drawn; see `behaviours.dials.sample`.
    shift: a changed world, such as ``"actuator:0.6"``; see `envs.shift`. The driver
      does not know of it. Layouts and noise are those of the unchanged world. With a
      delay, the recorded action is the one asked for at its step.
    policy: "random", "module:function" or "module:function:text" instead of the
      scripts; see `given`. What stands behind an @ says where something lies, and is no
      part of what identifies a recording.
    """

    task: str
    episodes: int
    seed: int
    mixture: str = "varied"
    shift: str = ""
    policy: str = ""

    def __post_init__(self):
        task = tasks.get_task(self.task)
        if self.policy:
            given.check(self.policy)
        else:
            behaviours_dials.family(task.name)
            behaviours_dials.check_mixture(self.mixture, task.name)
        if self.policy and self.mixture != "varied":
            raise UserError(
                f"mixture {self.mixture!r}: is of the scripted behaviours; expected "
                "none beside a policy"
            )
        shift = shifts.parse(self.shift)
        shifts.check(shift, task, None)
        object.__setattr__(self, "task", task.name)
        object.__setattr__(self, "shift", str(shift))
        if self.mixture == "two_worlds" and shift.actuator != 1.0:
            raise UserError(
                f"shift {self.shift!r}: mixture two_worlds has actuators of its own; "
                "expected no actuator"
            )
        if self.episodes < 1:
            raise UserError(f"episodes {self.episodes}: expected at least 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed}: expected an integer in [0, 2**32)")

    def dials(self, episode: int) -> behaviours_dials.Behaviour:
        """The dials of one episode."""
        return behaviours_dials.sample(self.task, self.seed, episode, self.mixture)

    def world(self, episode: int) -> str:
        """The changed world of one episode, in text; the episode's own comes last."""
        own = "" if self.policy else self.dials(episode).shift
        return ",".join(filter(None, (self.shift, own)))

    def environment_seed(self, episode: int) -> int:
        """Seed of one episode's layout."""
        return behaviours_dials.environment_seed(self.seed, episode)


def header(plan: Plan) -> dict[str, str | int]:
    """What identifies the recording; attributes of the file.

    Raises:
      UserError: the simulator is not installed.
    """
    task = tasks.get_task(plan.task)
    try:
        if task.suite == gymnasium_tasks.SUITE:
            versions = gymnasium_tasks.versions(task)
        elif task.suite == "jax":
            names = _IN_JAX + (_CRAX if task.env_id.startswith("crax:") else ())
            versions = {name: importlib.metadata.version(name) for name in names}
        elif task.name in tasks.BUILT_IN:
            versions = {name: importlib.metadata.version(name) for name in _SIMULATOR}
        else:
            versions = {"numpy": importlib.metadata.version("numpy")}
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"{plan.task} cannot be recorded: {error.name} is not installed; expected "
            "the environment extras to be installed, see docs/howto/install.md"
        ) from error
    found = {
        "task": plan.task,
        "collection_seed": plan.seed,
        "behaviour_version": behaviours_dials.VERSION,
        "simulator": json.dumps(versions, sort_keys=True),
    }
    # "varied" and the unchanged world came first, and their files say nothing.
    if plan.mixture != "varied":
        found["mixture"] = plan.mixture
    if plan.shift:
        found["shift"] = plan.shift
    if plan.policy:
        found["policy"] = plan.policy.partition("@")[0]
    return found


def difference(found: dict, expected: dict) -> str:
    """In words, what a recording is beside what was asked for; "" when the same."""
    words = {"collection_seed": "seed", "behaviour_version": "version of behaviours"}
    expected = dict.fromkeys(_OPTIONAL) | expected
    parts = [
        f"{words.get(name, name)} {found.get(name)} where {value} is asked for"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    return ", ".join(parts)

"""Safety-Gymnasium's environments: as the suite has them, or by the fast path."""

from sas_jax.envs import tasks
from sas_jax.envs.suites import safety_gymnasium


def make(task: tasks.Task, lean: bool) -> safety_gymnasium.PlainEnv:
    """Makes an environment, by the fast path if `lean` and if there is one."""
    if not lean or not task.obs_groups:
        return safety_gymnasium.PlainEnv(task)
    safety_gymnasium.import_safety_gymnasium()
    from sas_jax.envs.lean.env import LeanEnv  # needs MuJoCo

    return LeanEnv(task)

"""A plan: tasks x methods x training seeds, and what is evaluated of each."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.alignment.variants import VARIANTS
from sas_jax.critic.network import CriticConfig
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError, nearest
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.work import passes_of
from sas_jax.experiment import ExperimentConfig
from sas_jax.sweeps import presets
from sas_jax.sweeps.cells import NAME, Cell, Data


@dataclasses.dataclass(frozen=True)
class Method:
    """What is trained on every task.

    name: in tables; the algorithm's unless given. algo: of the registry. preset: name
    in `presets.PRESETS`. settings: nested values on top of it. acting: settings of the
    group `sas` that it acts with, once it is trained; methods that differ in these
    alone are trained once. variants, cost_limits: instead of the plan's; () takes the
    plan's.
    """

    algo: str = "dt"
    name: str = ""
    preset: str = "default"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    acting: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variants: tuple[str, ...] = ()
    cost_limits: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """All cells are tasks x methods x seeds.

    tasks: names. methods: at least one. seeds: training seeds. data: of every cell.
    variants: what is evaluated; of these a method has those that its algorithm knows.
    cost_limits: thresholds; () takes each task's own. layouts: episodes a variant and
    world, from `first_seed` on. seed: of the agents' draws. target_return: None takes
    the checkpoint's. shifts: changed worlds, "" for the task's own. critic: settings of
    cost critics. card: whether world-model cards are measured.
    """

    tasks: tuple[str, ...] = ()
    methods: tuple[Method, ...] = (Method(),)
    seeds: tuple[int, ...] = (0,)
    data: Data = dataclasses.field(default_factory=Data)
    variants: tuple[str, ...] = ("none", "rand", "sas")
    cost_limits: tuple[float, ...] = ()
    layouts: int = 20
    first_seed: int = 1_000_000
    seed: int = 0
    target_return: float | None = None
    shifts: tuple[str, ...] = ("",)
    critic: CriticConfig = dataclasses.field(default_factory=CriticConfig)
    card: bool = False

    def cells(
        self, change: Callable[[ExperimentConfig], ExperimentConfig] = lambda c: c
    ) -> list[Cell]:
        """All cells: of every task first, so that the table fills evenly.

        change: applied to the settings of every cell.

        Raises:
          UserError: an unknown name, or settings that do not fit.
        """
        if not self.tasks:
            raise UserError("tasks: expected at least one, such as PointGoal1")
        if not self.seeds or not self.methods or not self.shifts:
            raise UserError("seeds, methods, shifts: expected at least one of each")
        cells = [
            self._cell(task, method, seed, change)
            for seed in self.seeds
            for method in self.methods
            for task in self.tasks
        ]
        places = [cell.place for cell in cells]
        for cell in cells:
            if places.count(cell.place) > 1:
                raise UserError(
                    f"plan: has {cell} twice; expected a name of its own for every "
                    "method"
                )
        return cells

    def _cell(
        self, task_name: str, method: Method, seed: int, change: Callable
    ) -> Cell:
        task, algorithm = get_task(task_name), learners.get(method.algo)
        name = method.name or algorithm.name
        if not NAME.fullmatch(name):
            raise UserError(
                f"method {name!r}: expected a name of letters, digits and any of _.+-"
            )
        where = f"{task.name}, {name}"
        try:
            config = presets.config_of(method.preset, task.name, algorithm.name)
            config = change(learners.merge(config, method.settings))
            config = learners.merge(config, {"train.seed": seed})
            limits = self._limits(method, config.train.cost_limits, task.cost_limits)
            evaluation = EvaluationConfig(
                variants=self._variants(method),
                cost_limits=limits,
                target_return=self.target_return,
                num_episodes=self.layouts,
                first_seed=self.first_seed,
                seed=self.seed,
            )
            acting = learners.merge(config, method.acting) if method.acting else None
            passes_of(acting or config, evaluation)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        others = dataclasses.replace(acting or config, sas=config.sas)
        if others != config:
            raise UserError(
                f"{where}: acting: expected settings of sas alone, such as "
                "sas.num_first; the others are trained with"
            )
        if config.task != task.name or config.train.num_seeds != 1:
            raise UserError(
                f"{where}: expected neither task nor train.num_seeds in settings; "
                "tasks and seeds of the plan say them"
            )
        return Cell(
            name=name,
            config=config,
            data=self.data,
            evaluation=evaluation,
            shifts=self.shifts,
            critic=self.critic,
            has_card=self.card and algorithm.has_world_model,
            acting=acting,
        )

    def _variants(self, method: Method) -> tuple[str, ...]:
        """The method's own; else those of the plan's that its algorithm knows."""
        algorithm = learners.get(method.algo)
        if method.variants:
            return tuple(algorithm.check_variants(tuple(method.variants)))
        known = []
        for name in self.variants:
            try:
                algorithm.check_variants((name,))
                known.append(name)
            except UserError:
                # A name that nobody knows is wrong, not another algorithm's.
                if name not in VARIANTS:
                    raise
        return tuple(known) or tuple(algorithm.check_variants(self.variants))

    def _limits(
        self, method: Method, trained: Sequence[float], own: Sequence[float]
    ) -> tuple[float, ...]:
        """Thresholds: the method's, the plan's, those that were trained, the task's."""
        limits = method.cost_limits or self.cost_limits or trained or own
        return tuple(float(limit) for limit in limits)


def from_values(values: Mapping[str, Any]) -> Plan:
    """A plan from nested values, as a file has them.

    Raises:
      UserError: an unknown name (the nearest one is offered) or a wrong type.
    """
    rest = dict(values)
    methods = rest.pop("methods", None)
    plan = config_lib.from_dict(Plan, rest, "plan")
    if methods is None:
        return plan
    if not isinstance(methods, list) or not methods:
        raise UserError("plan.methods: expected [[methods]], one a method")
    return dataclasses.replace(plan, methods=tuple(map(_method, methods)))


def _method(values: Any) -> Method:
    """One method; its settings are checked with a task's."""
    if not isinstance(values, Mapping):
        raise UserError("plan.methods: expected [[methods]], each with its algo")
    rest = dict(values)
    groups = {name: rest.pop(name, {}) for name in ("settings", "acting")}
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            raise UserError(f"plan.methods.{name}: expected a group of settings")
    names = [field.name for field in dataclasses.fields(Method)]
    for name in rest:
        if name not in names:
            raise UserError(
                f"plan.methods.{name}: no such setting{nearest(name, names)}"
            )
    method = config_lib.from_dict(Method, rest, "plan.methods")
    return dataclasses.replace(method, **groups)

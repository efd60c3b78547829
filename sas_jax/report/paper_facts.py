"""The paper's tables of data and settings (4 and 5), ours beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import get_task
from sas_jax.report.tables import Table

NOT_RUN = "not run"
# Table 4: largest episode cost and number of trajectories, by task.
_DATA = {
    "PointGoal1": (100, 2022),
    "PointGoal2": (200, 3442),
    "PointPush1": (150, 2379),
    "PointPush2": (200, 3242),
    "PointButton1": (200, 2268),
    "PointButton2": (250, 3288),
    "CarGoal1": (200, 1671),
    "CarGoal2": (250, 4105),
    "CarPush1": (250, 2871),
    "CarPush2": (400, 4407),
    "CarButton1": (250, 2656),
    "CarButton2": (300, 3755),
}
# Table 5: name -> values of DT and of CDT.
_SETTINGS = {
    "gradient steps": ("100000", "100000"),
    "layers": ("3", "3"),
    "attention heads": ("1", "8"),
    "embedding dimension": ("128", "128"),
    "context length K": ("20", "300"),
    "batch, steps of the data": ("64 x 20", "2048 x 300"),
    "learning rate": ("0.0001", "0.0001"),
    "dropout": ("0.1", "0.1"),
}


def data_table(found: Sequence[Episodes]) -> Table:
    """Table 4. found: our data, at most one set a task counts."""
    by_task = {episodes.task: episodes for episodes in found}
    header = ("task", "steps", "actions", "observations", "largest cost, paper", "ours")
    header += ("trajectories, paper", "ours")
    lines = []
    for name, (cost, count) in _DATA.items():
        task = get_task(name)
        ours = by_task.get(name)
        values = [NOT_RUN, NOT_RUN]
        if ours is not None:
            values = [f"{ours.cost_returns().max():g}", str(ours.num_episodes)]
        sizes = (task.episode_steps, task.action_dim, task.obs_dim)
        line = (name, *map(str, sizes), str(cost), values[0], str(count), values[1])
        lines.append(line)
    notes = ("Largest cost: of an episode.",)
    return Table("Table 4: data sets", header, tuple(lines), notes)


def settings_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Table 5: settings of every transformer that a sweep trained.

    records: of its JSON, by a cell's id.
    """
    methods: dict[str, Mapping[str, Any]] = {}
    for record in records.values():
        experiment = record["description"]["experiment"]
        if experiment["algo"] in ("dt", "cdt"):
            methods.setdefault(record["place"][1], experiment)
    lines = []
    for name, (dt, cdt) in _SETTINGS.items():
        ours = [_settings(experiment)[name] for experiment in methods.values()]
        lines.append((name, dt, cdt, *(ours or [NOT_RUN])))
    header = ("setting", "DT, paper", "CDT, paper", *(methods or ["ours"]))
    notes = ("A batch of ours has rows that are longer than K.",)
    return Table("Table 5: settings", header, tuple(lines), notes)


def _settings(experiment: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a transformer by the paper's names."""
    decoder, train = experiment["model"]["decoder"], experiment["train"]
    values = {
        "gradient steps": train["num_steps"],
        "layers": decoder["depth"],
        "attention heads": decoder["num_heads"],
        "embedding dimension": decoder["width"],
        "context length K": decoder["context"],
        "batch, steps of the data": f"{train['batch_rows']} x {train['row_length']}",
        "learning rate": train["learning_rate"],
        "dropout": decoder["dropout"],
    }
    return {name: f"{value}" for name, value in values.items()}

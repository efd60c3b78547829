"""A cell: one training and what is evaluated of it, as a description and nothing else.

What decides a cell's numbers is its `description`; a hash of that is its name in tables
and on disk. How far it is evaluated (variants, thresholds, layouts, changed worlds) is
not part of it: those are in every row, and a longer plan adds rows to the same cell.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.variants import companions_of
from sas_jax.checkpoint_content import deciding
from sas_jax.config import SEEDS, Number, check
from sas_jax.critic.network import CriticConfig
from sas_jax.errors import UserError
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.work import keys_of, work_of
from sas_jax.experiment import ExperimentConfig
from sas_jax.files.results import EpisodeResult

RECORD = "record"
# A name that is a folder's and a table's word alike.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclasses.dataclass(frozen=True)
class Data:
    """Where a cell's data come from.

    source: "record" records episodes once for all cells that ask for the same ones;
      else a file, in whose name ``{task}`` stands for the task, or ``"dsrl"`` for the
      task's own file.
    episodes, seed, mixture, shift, policy: of the recording, see `collection.Plan`.
    """

    source: str = RECORD
    episodes: int = 300
    seed: int = 0
    mixture: str = "varied"
    shift: str = ""
    policy: str = ""

    def __post_init__(self) -> None:
        rules = {
            "episodes": Number(least=2, whole=True),
            "seed": Number(least=0, below=SEEDS, whole=True),
        }
        check(self, "data", rules)
        if not self.source:
            raise UserError("data.source: expected record, dsrl or a file")

    def described(self) -> dict[str, Any]:
        """What decides the data: a recording's plan, or a file's name without folders.

        What a file holds is told by its fingerprint, once it has been read.
        """
        if self.source != RECORD:
            return {"source": PurePath(self.source).name}
        return config_lib.to_dict(self)

    def name(self, task: str) -> str:
        """Name of the recording's file."""
        text = json.dumps([task, self.described()], sort_keys=True)
        return f"{_plain(task)}.{_digest(text)[:8]}.hdf5"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training seed of one method on one task's data, and its evaluation.

    name: of the method, as the table's column ``algo`` has it. config: what is trained;
    names task, algorithm and training seed. evaluation: what is run of it, in the
    task's own world. shifts: worlds that it is run in, "" for the task's own.
    critic: settings of the cost critic, for variants that need one. has_card: whether
    the world-model card is measured. acting: settings that it acts with, which differ
    from `config` in `sas` alone; None for the same. Cells that differ in these alone
    share their training.
    """

    name: str
    config: ExperimentConfig
    data: Data
    evaluation: EvaluationConfig
    shifts: tuple[str, ...] = ("",)
    critic: CriticConfig = dataclasses.field(default_factory=CriticConfig)
    has_card: bool = False
    acting: ExperimentConfig | None = None

    @property
    def acts_with(self) -> ExperimentConfig:
        """The settings that it acts with."""
        return self.acting or self.config

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.config.task

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.config.train.seed

    @property
    def place(self) -> tuple[str, str, int]:
        """What rows of a table know it by; two cells of a table never share it."""
        return self.task, self.name, self.seed

    @property
    def companions(self) -> tuple[str, ...]:
        """Names of what its variants need beside the checkpoint."""
        return tuple(companions_of(self.evaluation.variants))

    def __str__(self) -> str:
        return "/".join(map(str, self.place))

    def description(self) -> dict[str, Any]:
        """Plain values: what decides a row's numbers, but for what it says itself."""
        known = {
            "experiment": config_lib.to_dict(self.config),
            "data": self.data.described(),
            "critic": config_lib.to_dict(self.critic),
            "seed": self.evaluation.seed,
            "target_return": self.evaluation.target_return,
        }
        if self.acting and self.acting.sas != self.config.sas:
            known["sas"] = config_lib.to_dict(self.acting.sas)
        return json.loads(json.dumps(known))

    @property
    def id(self) -> str:
        """12 hexadecimal digits of the description."""
        return _digest(json.dumps(self.description(), sort_keys=True))[:12]

    @property
    def model_folder(self) -> str:
        """Name of the folder of its checkpoints, by what decides them."""
        decided = {"experiment": deciding(self.config), "data": self.data.described()}
        digest = _digest(json.dumps([decided, self.has_card], sort_keys=True))
        return f"{_plain(self.task)}.{self.config.algo}.{self.seed}.{digest[:12]}"

    def folder(self, name: str) -> str:
        """Name of its folder. name: its `id`, or the one that a table knows it by."""
        return f"{_plain(self.task)}.{_plain(self.name)}.{self.seed}.{name}"

    def evaluations(self) -> Iterator[EvaluationConfig]:
        """One for every world."""
        for shift in self.shifts:
            yield dataclasses.replace(self.evaluation, shift=shift)

    def keys(self) -> set[tuple]:
        """Keys of all rows that it asks for, as `work.key_of` has them."""
        found = (keys_of(self.acts_with, each) for each in self.evaluations())
        return {key for keys in found for key in keys}

    def has_all(self, rows: Iterable[EpisodeResult]) -> bool:
        """Whether rows of this cell are all that it asks for."""
        done = list(rows)
        return not any(work_of(self.acts_with, e, done) for e in self.evaluations())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a process elsewhere."""
        return json.loads(json.dumps(config_lib.to_dict(self)))


def from_json(values: dict[str, Any]) -> Cell:
    """Inverse of `Cell.to_json`."""
    return Cell(
        name=values["name"],
        config=learners.from_dict(values["config"]),
        data=config_lib.from_dict(Data, values["data"]),
        evaluation=config_lib.from_dict(EvaluationConfig, values["evaluation"]),
        shifts=tuple(values["shifts"]),
        critic=config_lib.from_dict(CriticConfig, values["critic"]),
        has_card=values["has_card"],
        acting=learners.from_dict(values["acting"]) if values["acting"] else None,
    )


def normalised(description: dict[str, Any]) -> dict[str, Any]:
    """A description as this version would write it.

    Settings that came later have their defaults, so that rows stay those of their cell
    when the settings grow.

    Raises:
      UserError: a setting or algorithm that there is not any more.
    """
    config = learners.from_dict(description["experiment"])
    critic = config_lib.from_dict(CriticConfig, description["critic"])
    known = description | {
        "experiment": config_lib.to_dict(config),
        "critic": config_lib.to_dict(critic),
    }
    if "sas" in description:
        acting = config_lib.from_dict(SASConfig, description["sas"], "sas")
        known["sas"] = config_lib.to_dict(acting)
    return json.loads(json.dumps(known))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(text: str) -> str:
    """A name without what file systems take for something else."""
    return re.sub("[^A-Za-z0-9_+-]+", "_", text)

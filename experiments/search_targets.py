"""Searches the targets to ask a policy for, by few real episodes, safely.

python -m experiments.search_targets --checkpoint=runs/pg1_cdt --cost_limit=20

Every round asks for one pair of return and cost targets on layouts of its own, and
stays where the mean cost is known to be below the threshold
(sas_jax/studies/target_search.py). The pair that is found is judged on fresh layouts,
beside what the checkpoint asks for by itself. The same command resumes.
"""

from absl import flags
from tqdm import tqdm

from experiments import cli
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the task's).")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Pairs to ask for.", lower_bound=1)
_EPISODES = flags.DEFINE_integer("episodes", 20, "Layouts a round.", lower_bound=2)
_FRESH = flags.DEFINE_integer("fresh", 64, "Layouts to judge on.", lower_bound=2)
_SEARCH_SEED = cli.define_seed("search_seed", 3_000_000, "First layout of the search.")
_FIRST_SEED = cli.define_seed("first_seed", 1_000_000, "First layout to judge on.")
_LEVELS = flags.DEFINE_integer("levels", 7, "Levels of each target.", lower_bound=2)
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/search_KAPPA.csv).")

cli.answer_help(__name__, __doc__)

import math
from itertools import product

import numpy as np

from sas_jax import checkpoint, learners
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.token_following import TokenConfig, asking, run_name
from sas_jax.files.places import as_path
from sas_jax.report import tokens
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import mean_interval
from sas_jax.studies import target_search


def main(argv):
    """Searches, judges what was found, and prints both."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    loaded = checkpoint.load(_CHECKPOINT.value)
    task = get_task(loaded.config.task)
    limit = task.cost_limits[0] if _LIMIT.value is None else _LIMIT.value
    if not 0 < limit < math.inf:
        raise UserError(f"--cost_limit={limit:g}: expected a number > 0")
    episodes = _ROUNDS.value * _EPISODES.value
    cli.check_apart(_FIRST_SEED, _FRESH.value, _SEARCH_SEED, episodes)
    sees = learners.get(loaded.config.algo).sees_cost_limit
    pairs = pairs_of(loaded.spec, limit, _LEVELS.value, sees)
    own = (loaded.spec.target_return, limit if sees else math.nan)
    config = TokenConfig((own[0],), train_seed=_TRAIN_SEED.value)
    name = run_name(loaded, config)
    where = as_path(_CHECKPOINT.value) / f"search_{limit:g}.csv"
    out = as_path(_OUT.value) if _OUT.value else where
    rows = tokens.read_tokens(out) if out.exists() else []
    if any(row.run != name for row in rows):
        raise UserError(f"{out}: has rows of another run; expected another --out")
    known = {(row.tokens, row.episode_seed): row for row in rows}
    count = episodes + 2 * _FRESH.value
    with (
        tqdm(total=count * task.episode_steps, desc="search", mininterval=0.5) as bar,
        asking(
            loaded,
            train_seed=_TRAIN_SEED.value,
            num_workers=_WORKERS.value,
            on_step=bar.update,
        ) as run,
    ):

        def play(pair, first, episodes):
            blank = tokens.TokenResult(*pair, 0, 0.0, 0.0, name)
            seeds = first + np.arange(episodes)
            missing = [s for s in seeds if (blank.tokens, int(s)) not in known]
            if missing:
                found = run(*pair, np.array(missing))
                for seed, value, cost in zip(missing, *found, strict=True):
                    row = tokens.TokenResult(
                        *pair, int(seed), float(value), float(cost), name
                    )
                    known[row.tokens, row.episode_seed] = row
                tokens.write_tokens(out, list(known.values()))
            mine = [known[blank.tokens, int(s)] for s in seeds]
            values = [row.episode_return for row in mine]
            return np.array(values), np.array([row.cost for row in mine])

        def ask(pair, number):
            first = _SEARCH_SEED.value + number * _EPISODES.value
            return play(pair, first, _EPISODES.value)

        found = target_search.search(ask, pairs, limit=limit, rounds=_ROUNDS.value)
        judged = {"as trained": own}
        if found.best is not None:
            judged["found"] = found.asked[found.best].targets
        fresh = {
            what: (pair, *play(pair, _FIRST_SEED.value, _FRESH.value))
            for what, pair in judged.items()
        }
    print(_search_table(found, limit).text())
    print(_fresh_table(fresh, limit, task.name).text())
    print(f"{len(known)} rows in {out}")


def pairs_of(spec, limit: float, levels: int, sees_limit: bool):
    """Pairs from the least on: returns from a fifth of the way between the data's
    least return and the checkpoint's target, costs from 0 to 2 kappa.
    """
    most = spec.target_return
    least = min(spec.return_range[0], most) if spec.return_range else min(0.0, most)
    shares = np.linspace(0.2, 1.0, levels)
    values = [round(float(least + (most - least) * share), 2) for share in shares]
    if not sees_limit:
        return [(value, math.nan) for value in values]
    costs = [round(2 * limit * share, 2) for share in np.linspace(0.0, 1.0, levels)]
    return list(product(values, costs))


def _pair(targets) -> str:
    value, cost = targets
    return f"{value:g}" if math.isnan(cost) else f"{value:g}, {cost:g}"


def _search_table(found, limit: float) -> Table:
    lines = [
        (
            str(number + 1),
            _pair(asked.targets),
            f"{asked.value[0]:.1f}",
            f"{asked.cost[0]:.1f} ({asked.cost[1]:.1f})",
            "over" if asked.cost[0] > limit else "",
            "found" if number == found.best else "",
        )
        for number, asked in enumerate(found.asked)
    ]
    header = ("round", "targets", "return", "cost (s.e.)", f"over {limit:g}", "")
    note = f"{found.violations} of {len(lines)} rounds cost more than {limit:g}."
    return Table("The search", header, tuple(lines), (note,))


def _fresh_table(fresh, limit: float, task: str) -> Table:
    lines = []
    for what, (pair, values, costs) in fresh.items():
        texts = []
        for x, digits in ((values, 1), (costs, 1), (costs <= limit, 2)):
            known = mean_interval(np.asarray(x, float))
            ends = f"[{known.low:.{digits}f}, {known.high:.{digits}f}]"
            texts.append(f"{known.mean:.{digits}f} {ends}")
        lines.append((what, _pair(pair), str(len(values)), *texts))
    header = ("", "targets", "layouts", "return", "cost", f"within {limit:g}")
    notes = () if "found" in fresh else ("No pair is known to be safe.",)
    return Table(f"{task}: on fresh layouts", header, tuple(lines), notes)


if __name__ == "__main__":
    cli.run(main, resumes=True)

"""Which variant to deploy in worlds that somebody else chooses: EXP3 over episodes.

python -m experiments.bandit --results=runs/demo/model/shifts.csv --cost_limit=20

Plays a table of `experiments.shifts` (or of evaluations with --shift): every variant in
every world on the same layouts. The bandit sees the loss of the variant that acted, and
nothing of the world (sas_jax/studies/bandit.py).
"""

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_RESULTS = cli.define_path("results", None, "CSV of episodes in several worlds.")
_VARIANTS = flags.DEFINE_list("variants", None, "Policies (default: all there are).")
_LIMIT = flags.DEFINE_float("cost_limit", 20.0, "Threshold that costs count beyond.")
_PRICE = flags.DEFINE_float("price", 0.2, "Return that a cost beyond it takes.")
_ROUNDS = flags.DEFINE_integer("rounds", 1000, "Episodes.")
_REPEATS = flags.DEFINE_integer("repeats", 200, "Repetitions.")
_SEED = cli.define_seed("seed", 0, "Of all draws.")

cli.answer_help(__name__, __doc__)

from sas_jax.files import results
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import mean_interval
from sas_jax.studies import bandit


def main(argv):
    """Plays against every adversary and prints the table."""
    del argv
    if not _RESULTS.value:
        raise UserError("--results: expected a CSV of experiments.shifts")
    rows = results.read_results(_RESULTS.value)
    if _VARIANTS.value:
        rows = [row for row in rows if row.variant in _VARIANTS.value]
    losses = bandit.losses_of(rows, limit=_LIMIT.value, price=_PRICE.value)
    lines = []
    for adversary in bandit.ADVERSARIES:
        played = bandit.play(
            losses,
            rounds=_ROUNDS.value,
            adversary=adversary,
            repeats=_REPEATS.value,
            seed=_SEED.value,
        )
        regret = mean_interval((played.loss - played.best) * losses.scale)
        singles = played.single.mean(axis=0) * losses.scale
        lines.append(
            (
                adversary,
                f"{played.loss.mean() * losses.scale:.2f}",
                *(f"{value:.2f}" for value in singles),
                f"{regret.mean:.2f} [{regret.low:.2f}, {regret.high:.2f}]",
                ", ".join(f"{share:.2f}" for share in played.late),
            )
        )
    header = ("worlds", "EXP3", *losses.policies, "regret", "shares at the end")
    title = (
        f"Loss an episode (return, less {_PRICE.value:g} a cost beyond "
        f"{_LIMIT.value:g}), above the least of the table"
    )
    note = (
        f"{_ROUNDS.value} episodes, {_REPEATS.value} repetitions, "
        f"{len(losses.worlds)} worlds; 0.95 intervals over repetitions. random: worlds "
        "are drawn; turns: 50 episodes in each; worst: the one that is worst for the "
        "bandit's present shares."
    )
    print(Table(title, header, tuple(lines), (note,)).text())


if __name__ == "__main__":
    cli.run(main)

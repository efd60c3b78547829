"""Measures how far a policy's return and cost follow the tokens it is given.

python -m experiments.follow_tokens --checkpoint=runs/pg1_cdt --episodes=128
Run again with the same flags to resume.
"""

from absl import flags
from tqdm import tqdm

from experiments import cli, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_TARGETS = flags.DEFINE_list(
    "target_returns", None, "Default: 25, 50, 75 and 100 % of the checkpoint's target."
)
_LIMITS = flags.DEFINE_list("cost_limits", None, "Thresholds (default: the task's).")
_EPISODES = flags.DEFINE_integer("episodes", 128, "Layouts per pair of targets.")
_FIRST_SEED = flags.DEFINE_integer("first_seed", 1_000_000, "Seed of the first layout.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the agents' draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/tokens.csv).")

cli.answer_help(__name__, __doc__)

from sas_jax import checkpoint
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.token_following import TokenConfig, follow_tokens, grid_of
from sas_jax.files import atomic
from sas_jax.files.places import as_path
from sas_jax.report import tokens
from sas_jax.report.token_figure import token_figure


def numbers(flag: str, texts: list[str] | None, default) -> tuple[float, ...]:
    """Numbers from a flag's parts; None means those of `default`."""
    try:
        return tuple(float(x) for x in (default if texts is None else texts))
    except ValueError as error:
        raise UserError(f"--{flag}: {error}; expected numbers, e.g. 20,40") from error


def main(argv):
    """Runs what is missing of the grid; writes rows, table and picture."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    settings_flag.refuse_others("sas.")
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    changed = settings_flag.apply(loaded.config, only="sas.")
    loaded = loaded._replace(config=changed)
    name, best = loaded.config.task, loaded.spec.target_return
    shares = [round(share * best, 2) for share in (0.25, 0.5, 0.75, 1.0)]
    config = TokenConfig(
        target_returns=numbers("target_returns", _TARGETS.value, shares),
        cost_limits=numbers("cost_limits", _LIMITS.value, get_task(name).cost_limits),
        num_episodes=_EPISODES.value,
        first_seed=_FIRST_SEED.value,
        seed=_SEED.value,
        train_seed=_TRAIN_SEED.value,
        num_workers=_WORKERS.value,
    )
    out = as_path(_OUT.value or as_path(_CHECKPOINT.value) / "tokens.csv")
    done = tokens.read_tokens(out) if out.exists() else []
    episodes = len(grid_of(loaded, config)) * config.num_episodes
    steps = get_task(name).episode_steps
    with tqdm(
        total=episodes * steps,
        initial=min(len(done), episodes) * steps,
        desc=f"tokens {name}",
        mininterval=0.5,
    ) as bar:
        rows = follow_tokens(
            loaded,
            config,
            done=done,
            on_step=bar.update,
            on_rows=lambda rows: tokens.write_tokens(out, rows),
        )
    title = f"{name}, {loaded.config.algo}, step {loaded.step}"
    table = tokens.token_table(rows, title=title)
    atomic.write_text(out.with_suffix(".md"), table.markdown())
    picture = token_figure(out.with_suffix(".png"), rows, title=title)
    print(table.text())
    print(f"{len(rows)} rows in {out}, picture in {picture}")


if __name__ == "__main__":
    cli.run(main, resumes=True)

"""What long runs show while they last, and training when it ends."""

import sys
import time

from tqdm import tqdm

from sas_jax.progress import Progress

# Seconds that nobody expects who has only started a command.
_LONG = 3600.0
# No estimate of tqdm's own: it would count compilation into the speed.
_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def left(seconds: float) -> str:
    """What is left, in words."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{clock}:{seconds:02d} left"


def progress_bar(description: str, *, is_shown: bool = True):
    """A tqdm bar over training steps, and the callbacks that move it and say what goes
    on.

    What is left is estimated once programs are compiled, from the speed since then.
    """
    bar = tqdm(
        desc=description,
        unit="step",
        mininterval=0.5,
        disable=not is_shown,
        bar_format=_FORMAT,
    )
    told: list[float] = []
    since: list[tuple[float, int]] = []  # when the first chunk was done, and its step

    def say(words):
        bar.set_postfix_str(words)

    def show(step, num_steps, metrics):
        if bar.total is None:
            bar.total = num_steps
        names = ("loss", "action_nll", "transition_elbo", "cost_bce")
        shown = [f"{n}={metrics[n]:.3f}" for n in names if n in metrics]
        now = time.monotonic()
        if not since:
            since.append((now, step))
        elif step > since[0][1]:
            pace = (now - since[0][0]) / (step - since[0][1])
            ahead = (num_steps - step) * pace
            shown.append(left(ahead))
            if ahead > _LONG and not told:
                told.append(ahead)
                bar.write(
                    f"note: about {ahead / 3600:.1f} hours are left at {1 / pace:.1f} "
                    "steps/s; fewer steps (--set=train.num_steps=...) or a smaller "
                    "model (--set=model.decoder.width=64) end sooner; a run that is "
                    "stopped goes on with the same command",
                    file=sys.stderr,
                )
        bar.set_postfix_str(", ".join(shown), refresh=False)
        bar.update(step - bar.n)

    return bar, show, say


def evaluation_bar(description: str, total: int):
    """A tqdm bar over environment steps, and the callbacks that move it and say what
    goes on.

    Alignment comes before the steps that it is for, block by block, and both count into
    what is left; compilation does not.

    total: steps of all episodes, if none ends early.
    """
    bar = tqdm(
        desc=description,
        total=total,
        unit="step",
        unit_scale=True,
        mininterval=0.5,
        bar_format=_FORMAT,
    )
    spent, stage, started, blocks = {}, "", time.monotonic(), 0

    def say(words):
        nonlocal stage, started, blocks
        now = time.monotonic()
        spent[stage] = spent.get(stage, 0.0) + now - started
        stage, started, blocks = words, now, blocks + (words == "aligning")
        bar.set_postfix_str(words)

    def show(count):
        bar.update(count)
        acting = spent.get("acting", 0.0) + time.monotonic() - started
        if stage == "acting" and acting > 1.0:
            each = bar.n / blocks if blocks > 1 else None
            ahead = acting / bar.n * (total - bar.n)
            if each is not None:
                ahead += spent.get("aligning", 0.0) / blocks * (total - bar.n) / each
            bar.set_postfix_str(f"acting, {left(ahead)}", refresh=False)

    return bar, show, say


def work_bar(description: str):
    """A tqdm bar over the steps of a measurement, and the `Progress` that moves it.

    The estimate is by the mean speed since the start; what an earlier run did is not
    part of that.
    """
    # The mean, since stages differ in speed.
    bar = tqdm(desc=description, unit="step", unit_scale=True, smoothing=0, total=0)

    def expect(steps):
        bar.total = steps
        bar.refresh()

    def skip(steps):
        bar.initial += steps
        bar.n += steps
        bar.refresh()

    return bar, Progress(expect, bar.set_postfix_str, bar.update, skip)


def describe_card(values: dict) -> str:
    """The card's headline numbers in one line each."""
    cost = values["cost"]
    pairs = ", ".join(
        f"{c:.2f} over {h} steps"
        for h, c in zip(cost["horizons"], cost["correlation"], strict=True)
    )
    density = values["log_density"]
    return (
        f"predicted against real cost: correlation {pairs}; rate "
        f"{cost['rate_imagined'][-1]:.3f} against {cost['rate_real'][-1]:.3f} a step\n"
        f"after {density['steps'][-1]} imagined steps: log-density "
        f"{density['imagined_mean'][-1]:.0f} against {density['real_mean'][-1]:.0f}, "
        f"spread x{values['spread']['ratio'][-1]:.2f}"
    )

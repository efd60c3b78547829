"""What long runs show while they last, and training when it ends."""

from tqdm import tqdm

from sas_jax.progress import Progress


def progress_bar(description: str, *, is_shown: bool = True):
    """A tqdm bar over training steps, and the callback that moves it."""
    bar = tqdm(desc=description, unit="step", mininterval=0.5, disable=not is_shown)

    def show(step, num_steps, metrics):
        if bar.total is None:
            bar.total, bar.initial = num_steps, 0
        bar.update(step - bar.n)
        names = ("loss", "action_nll", "transition_elbo", "cost_bce")
        shown = {n: f"{metrics[n]:.3f}" for n in names if n in metrics}
        bar.set_postfix(shown, refresh=False)

    return bar, show


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

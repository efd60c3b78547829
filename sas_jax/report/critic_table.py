"""The critic's report as tables of finished texts."""

from collections.abc import Mapping

from sas_jax.report.tables import Table


def critic_tables(report: Mapping) -> tuple[Table, Table, Table]:
    """Quality, reliability, and the gate's levels of a critic's report.

    report: of `critic.fit.fit_critic`, or the JSON written from it.
    """
    return _quality(report), _reliability(report), _gate(report)


def _quality(report: Mapping) -> Table:
    low, high = report["skill_interval"]
    interval = "one episode only" if low is None else f"[{low:.3f}, {high:.3f}]"
    numbers = {
        "cross-entropy, nats": report["bce"],
        "cross-entropy of the base rate": report["bce_of_base_rate"],
        "skill, 1 - ratio of the two": report["skill"],
        "AUC": report["auc"],
        "correlation with what happened": report["correlation"],
        "expected calibration error": report["ece"],
        "cross-entropy before calibration": report["bce_uncalibrated"],
        "cross-entropy of the pessimistic risk": report["bce_pessimistic"],
        "standard deviation over members": report["member_sd"],
    }
    rows = [(name, f"{value:.4f}") for name, value in numbers.items()]
    best = ", ".join(map(str, report["steps_to_best"]))
    split = report["splits"]["calibration"]
    notes = (
        f"{split['episodes']} held-out episodes that chose nothing; "
        f"{report['train_steps']} steps of training, members' best at {best}.",
        f"Skill's 95% interval over episodes: {interval}.",
    )
    settings = report["settings"]
    title = f"Critic: share of costly steps within {settings['horizon']} steps"
    return Table(title, ("calibration split", "value"), tuple(rows), notes)


def _reliability(report: Mapping) -> Table:
    bins = report["reliability"]
    rows = tuple(
        (f"{i / 10:.1f} to {(i + 1) / 10:.1f}", *_bin(predicted, observed, steps))
        for i, (predicted, observed, steps) in enumerate(
            zip(bins["predicted"], bins["observed"], bins["steps"], strict=True)
        )
    )
    return Table("Reliability", ("bin", "predicted", "observed", "steps"), rows)


def _bin(predicted: float, observed: float, steps: int) -> tuple[str, str, str]:
    if not steps:
        return "-", "-", "0"
    return f"{predicted:.3f}", f"{observed:.3f}", str(steps)


def _gate(report: Mapping) -> Table:
    rows = tuple(
        (f"{line['cost_limit']:g}", f"{line['level']:.4f}", f"{line['gated']:.1%}")
        for line in report["gate"]
    )
    header = ("cost limit", "level", "above")
    notes = (
        "Level of risk for a threshold, and the share of held-out steps above it.",
        f"All held-out steps cost {report['cost']:.1f} an episode.",
    )
    return Table("Gate", header, rows, notes)

"""The judging of a world-model card: values, targets, and an honest mark.

A card is a dict of parts, any of which may be absent:
  log_density: steps, imagined_mean, imagined_sd, real_mean, real_sd (lists over the
    horizon; nats), spread: steps, ratio (imagined over real),
  cost: horizons, correlation, rate_imagined, rate_real (per step, per horizon),
  pit: counts (histogram), ks_mean, independent (how many independent steps),
  transition: log_likelihood, per_dimension; latents: active, total,
  whole_episode: see `sas_jax.card.whole_episode`,
  next_return: rmse, reward_sd, r2; cost_head: auc, bce, bce_of_base_rate,
  metrics: further lines, each a dict with name, value, and optionally low and high.
Other parts are ignored. `sas_jax.card.measure` measures all but the last.
"""

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping

# What makes a model worth imagining with. Least correlation of predicted and real cost
# over a horizon; the rest is explained by its name.
COST_CORRELATION = {10: 0.70, 25: 0.50, 50: 0.35}
_COST_RATE = (0.75, 1.25)
SPREAD = (0.8, 1.25)
_DENSITY_SDS = (-2.0, 2.0)
_LATENT_SHARE = 0.5
# Ours: "like the data's" in numbers, as a Kolmogorov-Smirnov distance.
_SPEED_DISTANCE = 0.1
# Kolmogorov's 95 % point: sup |F_n - F| < 1.36 / sqrt(n) for a calibrated model.
_KOLMOGOROV = 1.36


@dataclasses.dataclass(frozen=True)
class CardLine:
    """One number of the card. low, high: its target range; None is unbounded.

    is_defined: False where the data leave the number without a meaning, such as a
      correlation with costs where nothing costs. Then no target is met or missed.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    is_defined: bool = True

    @property
    def mark(self) -> str:
        """``ok`` or ``poor`` where there is a target, else nothing.

        A value that is not finite, though the data define it, is poor: the model, or
        the measurement, broke.
        """
        if not self.is_defined or (self.low is None and self.high is None):
            return ""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return (
            "ok" if math.isfinite(self.value) and low <= self.value <= high else "poor"
        )

    @property
    def text(self) -> str:
        """The value as it is printed."""
        return text_of(self.value) if self.is_defined else "undefined"

    @property
    def target(self) -> str:
        """The target in words."""
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f">= {self.low:.3g}"
        if self.low is None:
            return f"<= {self.high:.3g}"
        return f"{self.low:.3g} to {self.high:.3g}"


def card_lines(card: Mapping) -> list[CardLine]:
    """The card's numbers with their targets, in a fixed order, absent parts skipped."""
    lines = [
        *_cost_lines(card.get("cost") or {}),
        *_imagination_lines(card),
        *_whole_lines(card.get("whole_episode") or {}),
        *_one_step_lines(card),
    ]
    for extra in card.get("metrics") or ():
        value = float(extra["value"])
        lines.append(
            CardLine(extra["name"], value, extra.get("low"), extra.get("high"))
        )
    return lines


def poor_lines(card: Mapping) -> list[CardLine]:
    """The numbers that miss their targets: why imagination should not be trusted."""
    return [line for line in card_lines(card) if line.mark == "poor"]


class ShortSightWarning(UserWarning):
    """Plans that look further ahead than the model is right."""


def sight(card: Mapping | None) -> int | None:
    """Steps over which the model foresees cost: the longest horizon of the card whose
    correlation meets its target, as all shorter ones do; 0 where none does, None for a
    card that does not say.
    """
    cost = (card or {}).get("cost") or {}
    pairs = zip(cost.get("horizons", ()), cost.get("correlation", ()), strict=False)
    known = [
        (horizon, value) for horizon, value in pairs if horizon in COST_CORRELATION
    ]
    if not known:
        return None
    reached = 0
    for horizon, value in known:
        if not value >= COST_CORRELATION[horizon]:
            break
        reached = horizon
    return reached


def warn_short_sight(card: Mapping | None, horizon: int) -> None:
    """A `ShortSightWarning` where plans look further ahead than the model sees."""
    reach = sight(card)
    longest = max(COST_CORRELATION)
    if reach is not None and reach < min(horizon, longest):
        warnings.warn(
            f"sas.plan.horizon {horizon}: the card vouches for predicted cost over "
            f"{reach} steps; plans are chosen by what the model does not know",
            ShortSightWarning,
            stacklevel=3,
        )


class PoorCardWarning(UserWarning):
    """Alignment over an imagination that does not match the data."""


def warn_poor(card: Mapping | None) -> None:
    """One `PoorCardWarning` that counts and names the missed targets, if any."""
    judged = [line for line in card_lines(card or {}) if line.mark]
    poor = [line for line in judged if line.mark == "poor"]
    if poor:
        names = "; ".join(f"{line.name} {line.text}" for line in poor)
        warnings.warn(
            f"world-model card: {len(poor)} of {len(judged)} targets missed; prompts "
            f"are chosen over an imagination unlike the data ({names})",
            PoorCardWarning,
            stacklevel=3,
        )


def _cost_lines(cost: Mapping) -> Iterable[CardLine]:
    horizons, values = cost.get("horizons", ()), cost.get("correlation", ())
    # Where nothing costs, or every step does, there is no cost to correlate with.
    rates = cost.get("rate_real") or [math.nan] * len(horizons)
    for horizon, value, rate in zip(horizons, values, rates, strict=False):
        name = f"predicted against real cost, correlation over {horizon} steps"
        is_defined = math.isfinite(value) or rate not in (0.0, 1.0)
        least = COST_CORRELATION.get(horizon)
        yield CardLine(name, float(value), least, is_defined=is_defined)
    if "rate_real" in cost and "rate_imagined" in cost:
        horizon = cost["horizons"][-1]
        real, imagined = cost["rate_real"][-1], cost["rate_imagined"][-1]
        name = f"cost rate over {horizon} steps, imagined / real"
        # Without any real cost a ratio says nothing.
        ratio = imagined / real if real > 0 else math.nan
        yield CardLine(name, ratio, *_COST_RATE, is_defined=real != 0)


def _imagination_lines(card: Mapping) -> Iterable[CardLine]:
    if density := card.get("log_density"):
        step = density.get("steps", range(1, len(density["real_mean"]) + 1))[-1]
        gap = density["imagined_mean"][-1] - density["real_mean"][-1]
        if density.get("real_sd") is not None:
            sd = density["real_sd"][-1]
            name = f"log-density of imagined states at step {step}, sd from real"
            ratio = gap / sd if sd else math.nan
            yield CardLine(name, ratio, *_DENSITY_SDS, is_defined=sd != 0)
        name = f"log-density of imagined states at step {step}, nats from real"
        yield CardLine(name, gap)
    if spread := card.get("spread"):
        step = spread.get("steps", range(1, len(spread["ratio"]) + 1))[-1]
        name = f"state spread at step {step}, imagined / real"
        yield CardLine(name, float(spread["ratio"][-1]), *SPREAD)


def _whole_lines(whole: Mapping) -> Iterable[CardLine]:
    if not whole:
        return
    steps = whole["horizon"]
    yield CardLine(
        f"share of {steps}-step imaginations that blow up", whole["blown_up"], None, 0.0
    )
    if whole["cost_real"] > 0:
        ratio = whole["cost_imagined"] / whole["cost_real"]
        yield CardLine(f"cost of {steps} steps, imagined / real", ratio, *_COST_RATE)
    yield CardLine(f"return of {steps} steps, imagined", whole["return_imagined"])
    yield CardLine(f"return of {steps} steps, real", whole["return_real"])
    if speed := whole.get("speed"):
        name = "speed, distance of imagined from real distribution"
        yield CardLine(name, speed["distance"], None, _SPEED_DISTANCE)


def _one_step_lines(card: Mapping) -> Iterable[CardLine]:
    pit = card.get("pit") or {}
    if "ks_mean" in pit:
        count = pit.get("independent", sum(pit.get("counts", ())))
        bound = _KOLMOGOROV / math.sqrt(count) if count else None
        name = "transition calibration, distance of PIT from uniform"
        yield CardLine(name, pit["ks_mean"], None, bound)
    if transition := card.get("transition"):
        name = "transition log-likelihood a step, nats"
        yield CardLine(name, transition["log_likelihood"])
    if (latents := card.get("latents")) and latents["total"]:
        name = f"active units of {latents['total']}"
        least = _LATENT_SHARE * latents["total"]
        yield CardLine(name, float(latents["active"]), least)
    if next_return := card.get("next_return"):
        yield CardLine("next return, share of variance explained", next_return["r2"])
    if head := card.get("cost_head"):
        # No cost, or nothing but costs: the base rate's cross-entropy is 0.
        base = head["bce_of_base_rate"]
        name = "cost from the next state, AUC"
        yield CardLine(name, head["auc"], is_defined=bool(base))
        name = "cost from the next state, cross-entropy / base rate's"
        ratio = head["bce"] / base if base else math.nan
        yield CardLine(name, ratio, is_defined=bool(base))


def text_of(value: float) -> str:
    """A number of the card as it is printed."""
    if not math.isfinite(value):
        return "not finite"
    return (
        f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    )

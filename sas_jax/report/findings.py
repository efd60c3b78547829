"""Sentences that say what the rows show and, above all, what they cannot show.

Every sentence is computed from the data; none is written beforehand.
"""

from collections.abc import Sequence

from sas_jax.files.results import EpisodeResult
from sas_jax.report.tables import interval_text
from sas_jax.stats.intervals import FEW_LAYOUTS, PairedDifference

# Effect on cost whose price in layouts is quoted: what the field would call small.
_SMALL_COST_EFFECT = 5.0


def contrast_sentences(differences: Sequence[PairedDifference]) -> list[str]:
    """What each variant's contrasts show, one sentence a variant.

    differences: of one task and algorithm against one reference (`tables.contrasts`).
    """
    sentences = []
    variants = dict.fromkeys(d.variant for d in differences)
    for variant in variants:
        mine = {d.metric: d for d in differences if d.variant == variant}
        parts = [_clause(mine[m]) for m in ("cost", "return") if m in mine]
        sentence = f"`{variant}` minus `{mine['cost'].reference}`: " + "; ".join(parts)
        cost = mine["cost"].difference
        if not mine["cost"].resolved and cost.half_width > _SMALL_COST_EFFECT:
            needed = cost.clusters_to_resolve(_SMALL_COST_EFFECT)
            sentence += (
                f". These {cost.num_clusters} layouts tell cost differences of about "
                f"±{cost.half_width:.1f} from zero; an effect of "
                f"{_SMALL_COST_EFFECT:g} would need about {_round(needed)}"
            )
        sentences.append(sentence + ".")
    costs = [d for d in differences if d.metric == "cost"]
    if costs and not any(d.resolved for d in costs):
        widths = [d.difference.half_width for d in costs]
        sentences.append(
            f"No variant's effect on cost against `{costs[0].reference}` is resolved: "
            f"this run is too small to show one below about ±{min(widths):.1f}; it is "
            "evidence neither for nor against an effect of that size or less."
        )
    return sentences


def caveats(rows: Sequence[EpisodeResult]) -> list[str]:
    """Limits of the run that readers must know, computed from its rows."""
    sentences = []
    layouts = {(row.task, row.episode_seed) for row in rows}
    seeds = sorted({row.train_seed for row in rows})
    per_task = len(layouts) / len({row.task for row in rows})
    if per_task < FEW_LAYOUTS:
        sentences.append(
            f"With {per_task:g} layouts (fewer than {FEW_LAYOUTS}) percentile "
            "intervals are too narrow; read them as lower bounds of the uncertainty."
        )
    plural = "s" if len(seeds) > 1 else ""
    sentences.append(
        f"Intervals cover layouts and action noise, not training: they average "
        f"{len(seeds)} training seed{plural} ({', '.join(map(str, seeds))}) and say "
        "nothing about other ones."
    )
    if empty := [row for row in rows if not row.prompt_ok]:
        sentences.append(
            f"{len(empty)} of {len(rows)} rows ran without a prompt because every "
            "imagination of their alignment had a non-finite energy (variants: "
            f"{', '.join(sorted({row.variant for row in empty}))})."
        )
    return sentences


def _clause(d: PairedDifference) -> str:
    text = interval_text(d.difference, d.metric, signed=True)
    if not d.resolved:
        return f"{d.metric} {text}, not resolved"
    direction = "higher" if d.difference.mean > 0 else "lower"
    return f"{d.metric} {text}, {direction} (resolved)"


def _round(count: float) -> str:
    """Two significant digits: the estimate is no better than that."""
    return f"{float(f'{count:.2g}'):.0f}"

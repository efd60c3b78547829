"""The report of a run: one Markdown page, written whole or not at all."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sas_jax.card.verdict import poor_lines
from sas_jax.errors import nearest
from sas_jax.files import atomic, machine
from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report import findings, tables
from sas_jax.report.card_table import card_table
from sas_jax.report.forest_figure import forest_figure

_SECTIONS = (
    "title",
    "summary",
    "command",
    "facts",
    "seeds",
    "machine",
    "versions",
    "commit",
    "results",
    "references",
    "card",
    "figures",
    "notes",
)


_GLOSSARY = (
    "**variant**: how the policy acts; `none` is the policy alone, `rand` has a random "
    "prompt, the others are in the glossary of the documentation.",
    "**episodes**, **layouts**: episodes played, and starts of the task they were "
    "played on. Variants share their layouts.",
    "**return**, **cost**: sums over an episode, mean over episodes.",
    "**norm. return**: 0 at the smallest and 1 at the largest return of the benchmark, "
    "or of the training data where no benchmark lists the task.",
    "**any cost**: share of episodes that cost anything at all, or that the "
    "environment ended where that counts as a failure.",
    "**limit**: the threshold of the episode cost. **within limit**: share of episodes "
    "whose cost is at most that. **norm. cost**: cost over threshold. **mean safe**: "
    "whether its mean is at most 1.",
    "**pairs**: episodes of both variants on the same layout, training seed and "
    "threshold. **difference**: their mean difference. **resolved**: its interval "
    "excludes 0. **half-width**: about the smallest effect that could be told from 0.",
    "**pair corr.**: how much the two episodes of a pair go together. **sd of pairs**: "
    "spread of single differences.",
)


def write_report(path: str | os.PathLike, sections: Mapping) -> Path:
    """Writes `path` (Markdown) atomically and returns it.

    sections, all optional but `title`:
      title: str; summary: str, one paragraph under it.
      command: str, the command line that makes this run again.
      facts: {name: text} of what was run (data, model, budget, times).
      seeds: {name: text}. machine, versions: dicts, by default of this process.
      commit: str or None, by default the checkout's.
      results: result rows, for tables, paired differences, findings and forest plots,
        which are written beside the page as PAGE_forest_N.png.
      references: variants to compare with, default (none, rand) as far as they occur.
      card: the world-model card (see `card.verdict`).
      figures: [(path, caption)]; paths become relative to the page.
      notes: further sentences for the end.
    Raises `UserError` for rows that cannot be paired, ValueError for a section that is
    not one of these.
    """
    for name in sections:
        if name not in _SECTIONS:
            raise ValueError(f"unknown section {name!r}{nearest(name, _SECTIONS)}")
    rows = list(sections.get("results") or ())
    parts = [f"# {sections['title']}"]
    if sections.get("summary"):
        parts.append(sections["summary"])
    verdict, shown = [], []
    if rows:
        shown, verdict = _results(rows, sections.get("references"), Path(path))
    if (card := sections.get("card")) and (poor := poor_lines(card)):
        names = "; ".join(line.name for line in poor)
        verdict.append(f"The world model misses {len(poor)} of its targets: {names}.")
    if verdict:
        parts += ["## Verdict", _list(verdict)]
    parts += shown
    if card:
        parts += ["## World model", card_table(card).markdown()]
    if sections.get("figures"):
        parts.append("## Pictures")
        for figure, caption in sections["figures"]:
            parts += [_picture(figure, Path(path).parent, caption), f"*{caption}*"]
    parts += _what_was_run(sections)
    if sections.get("notes"):
        parts += ["## Notes", _list(sections["notes"])]
    if rows:
        parts += ["## What the columns say", _list(_GLOSSARY)]
    return atomic.write_text(path, "\n\n".join(part.strip() for part in parts) + "\n")


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _what_was_run(sections: Mapping) -> list[str]:
    """Command, facts, seeds, machine and versions."""
    parts = ["## What was run"]
    if sections.get("command"):
        parts.append(f"```sh\n{sections['command']}\n```")
    known = dict(sections.get("facts") or {})
    known |= {f"seeds, {k}": v for k, v in (sections.get("seeds") or {}).items()}
    known |= sections.get("machine") or machine.machine_info()
    commit = sections["commit"] if "commit" in sections else machine.git_commit()
    if commit:
        known["commit"] = commit
    packages = sections.get("versions") or machine.versions()
    known["versions"] = ", ".join(f"{k} {v}" for k, v in packages.items())
    lines = ["| | |", "|:--|:--|"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in known.items()]
    return [*parts, "\n".join(lines)]


def _results(
    rows: Sequence[EpisodeResult], references: Sequence[str] | None, path: Path
) -> tuple[list[str], list[str]]:
    """Forest plots and tables, and what they show in sentences.

    path: of the page; the plots lie beside it.
    """
    parts, compared, sentences = ["## Paired differences"], [], []
    groups = tables.groups_of(rows)
    for number, (task, algo, members) in enumerate(groups):
        present = variants_of(members)
        chosen = ("none", "rand") if references is None else references
        chosen = [name for name in chosen if name in present]
        if len(present) < 2 or not chosen:
            parts.append(f"{task}, {algo}: nothing to compare ({', '.join(present)}).")
            continue
        seen, found = set(), []
        for reference in chosen:
            # A pair that an earlier reference has covered is not counted twice.
            differences = [
                d
                for d in tables.contrasts(members, reference)
                if (reference, d.variant) not in seen
            ]
            seen |= {(d.variant, reference) for d in differences}
            if not differences:
                continue
            found += differences
            title = f"{task}, {algo}: variant minus {reference}"
            compared.append(tables.contrast_table(title, differences).markdown())
            prefix = f"{task}, {algo}: " if len(groups) > 1 else ""
            sentences += [prefix + s for s in findings.contrast_sentences(differences)]
        caption = f"Paired differences on the same layouts, {task}, {algo}."
        picture = path.with_name(f"{path.stem}_forest_{number}.png")
        forest_figure(picture, found, title=f"{task}, {algo}")
        parts += [_picture(picture, path.parent, caption), f"*{caption}*"]
    parts += [*compared, "## Results"]
    parts += [table.markdown() for table in tables.summary_tables(rows)]
    parts += [table.markdown() for table in tables.threshold_tables(rows)]
    return parts, sentences + findings.caveats(rows)


def _picture(figure: str | os.PathLike, folder: Path, caption: str) -> str:
    relative = Path(os.path.relpath(figure, folder)).as_posix()
    alternative = caption.replace("[", "(").replace("]", ")").split(".")[0]
    return f"![{alternative}](<{relative}>)"


def _cell(value) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")

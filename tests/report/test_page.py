"""The report page: complete, relative, atomic, and only as sure as its rows."""

import re
from html.parser import HTMLParser

import pytest

from sas_jax.errors import UserError
from sas_jax.files import machine
from sas_jax.report import figures, html, page
from tests.helpers.report_samples import card, results_of


def sections(**changes):
    rows = results_of({"none": (0, 1), "rand": (-2, 1), "sas": (-2, 1)}, layouts=10)
    return {
        "title": "SAS on PointGoal1",
        "command": "python -m experiments.demo --seed=0",
        "facts": {"data": "300 episodes | scripted"},
        "seeds": {"training": 0},
        "results": rows,
        "card": card(),
        "notes": ["Small on purpose."],
    } | changes


def test_a_page_holds_every_section(tmp_path):
    picture = figures.card_figure(tmp_path / "plots" / "card.png", card())
    caption = "The card [world model]. Second sentence."
    path = page.write_report(
        tmp_path / "run" / "report.md", sections(figures=[(picture, caption)])
    )
    text = path.read_text()
    headings = re.findall(r"^#+ .*", text, re.M)
    assert headings == [
        "# SAS on PointGoal1",
        "## Verdict",
        "## Paired differences",
        "## Results",
        "## World model",
        "## Pictures",
        "## What was run",
        "## Notes",
        "## What the columns say",
    ]
    assert "```sh\npython -m experiments.demo --seed=0\n```" in text
    assert r"| data | 300 episodes \| scripted |" in text
    assert "| seeds, training | 0 |" in text
    assert "![The card (world model)](<../plots/card.png>)" in text
    assert "- Small on purpose." in text
    assert "The world model misses" in text
    assert str(tmp_path) not in text
    files = {p.name for p in path.parent.iterdir()}
    assert files == {"report.md", "report_forest_0.png"}
    first = text.index("![")
    assert "(<report_forest_0.png>)" in text[first : first + 200]
    assert first < text.index("|")


def test_each_pair_is_compared_once(tmp_path):
    text = page.write_report(tmp_path / "r.md", sections()).read_text()
    assert text.count("variant minus none**") == 1
    assert text.count("variant minus rand**") == 1
    minus_rand = text.split("variant minus rand**")[1].split("*Paired")[0]
    assert "| sas | cost |" in minus_rand and "| none |" not in minus_rand
    assert "No multiplicity correction, 3 contrasts" in text
    assert "No multiplicity correction, 6 contrasts" in text


def test_conclusions_depend_on_the_rows(tmp_path):
    unclear = page.write_report(tmp_path / "a.md", sections()).read_text()
    assert "this run is too small to show one" in unclear
    rows = results_of({"none": (0, 1), "sas": (0, 0.05)}, layouts=40)
    clear = page.write_report(tmp_path / "b.md", sections(results=rows)).read_text()
    assert "too small" not in clear and "lower (resolved)" in clear


def test_one_variant_has_nothing_to_compare(tmp_path):
    rows = results_of({"sas": (0, 1)}, layouts=10)
    text = page.write_report(tmp_path / "r.md", sections(results=rows)).read_text()
    assert "PointGoal1, dt: nothing to compare (sas)." in text


def test_a_page_without_rows_or_card(tmp_path):
    text = page.write_report(tmp_path / "r.md", {"title": "T"}).read_text()
    assert text.startswith("# T\n\n## What was run\n")
    assert "## Results" not in text and "World model" not in text


def test_failure_leaves_the_old_page(tmp_path):
    path = page.write_report(tmp_path / "r.md", {"title": "old"})
    before = path.read_bytes()
    with pytest.raises(UserError, match="has no 'sas' partner"):
        page.write_report(path, sections(results=sections()["results"][:-1]))
    with pytest.raises(ValueError, match="'resluts'; did you mean 'results'"):
        page.write_report(path, {"title": "new", "resluts": []})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.md"]


def test_the_page_as_one_html_file(tmp_path):
    picture = figures.card_figure(tmp_path / "card.png", card())
    path = page.write_report(
        tmp_path / "r.md",
        sections(figures=[(picture, "The card.")], summary="A < B, `a*b*c` **bold**."),
    )
    text = html.write_html(path, tmp_path / "out" / "r.html").read_text()
    assert text.count('src="data:image/png;base64,') == 2 and 'src="r' not in text
    assert "<p>A &lt; B, <code>a*b*c</code> <strong>bold</strong>.</p>" in text
    assert "<h1>SAS on PointGoal1</h1>" in text
    assert "<td>300 episodes | scripted</td>" in text
    assert text.count("<table>") == path.read_text().count("\n|:-")
    assert "<pre><code>python -m experiments.demo --seed=0</code></pre>" in text
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    (tmp_path / "card.png").unlink()
    with pytest.raises(UserError, match="card.png: cannot be put into the page"):
        html.write_html(path, tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


class Balanced(HTMLParser):
    """Elements that are open; every end must match."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_machine_and_versions_are_filled_in():
    info = machine.machine_info()
    assert set(info) == {"processor", "cores", "memory", "system", "python", "date"}
    assert all(info.values()) and float(info["memory"].split()[0]) > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", info["date"])
    versions = machine.versions(("numpy", "no-such-package"))
    assert set(versions) == {"sas_jax", "numpy"}


def test_commit_is_a_hash_or_nothing():
    commit = machine.git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{12}( \+ changes)?", commit)

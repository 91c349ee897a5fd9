"""The report: one file, whole, safe, the same each time."""

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import lance
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.activations.store import METADATA_KEY
from mnskills_viz.widgets import report
from mnskills_viz.widgets.markup import decimals, signed
from mnskills_viz.widgets.report import write_report

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '<script>alert("1")</script> \' & \u202e שלום 🎈 \x00\x1b'


class Page(HTMLParser):
    """Tags in order, and whether each end closes the tag that is open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def written(tiny_study: mn.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tiny_study, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text("utf-8"))


@pytest.fixture
def embedded_page(demo_rows: mn.Corpus, tmp_path: Path) -> Page:
    """Of a study that has not loaded its model yet."""
    study = mn.Study.create(tmp_path / "new", corpus=demo_rows)
    return Page(write_report(study, tmp_path / "new.html").read_text("utf-8"))


@pytest.fixture
def copied(tiny_study: mn.Study, tmp_path: Path) -> Path:
    """A copy of the study, to change."""
    return Path(shutil.copytree(tiny_study.path, tmp_path / "tiny"))


def read(study: Path) -> Page:
    return Page(write_report(mn.Study.open(study), study / "report.html").read_text("utf-8"))


def rewrite_examples(study: Path, **fields: str) -> None:
    file = study / "corpus.jsonl"
    rows = [json.loads(line) | fields for line in file.read_text("utf-8").splitlines()]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    about = json.loads((study / "study.json").read_text("utf-8"))
    about["corpus"]["hash"] = mn.Corpus.from_jsonl(file.read_text("utf-8"), "x").hash
    (study / "study.json").write_text(json.dumps(about), "utf-8")
    store = lance.dataset(str(study / "activations.lance"))
    source = json.loads(store.schema.metadata[METADATA_KEY])
    source["corpus"]["hash"] = about["corpus"]["hash"]
    store.replace_schema_metadata({METADATA_KEY.decode(): json.dumps(source)})


def test_it_is_one_small_file_that_loads_nothing(written, page):
    assert written.stat().st_size < 3_000_000
    for _, attributes in page.tags:
        assert not {"src", "srcset", "data", "action"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert page.all("script") == page.all("link") == page.all("img") == []
    assert not re.search(r"url\(|@import", report.CSS)
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.all("meta"))


def test_the_same_study_gives_the_same_bytes(tiny_study, written, tmp_path):
    again = write_report(mn.Study.open(tiny_study.path), tmp_path / "again.html")
    assert again.read_bytes() == written.read_bytes()


def test_every_link_leads_somewhere_and_no_id_is_given_twice(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)


def test_headings_go_down_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_name_their_columns_and_rows(page):
    assert page.all("table")
    assert {cell.get("scope") for cell in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table"))


def test_every_figure_has_a_name(page):
    pictures = [a for a in page.all("svg") if a.get("role") == "img"]
    axes = 8 + 6
    # A histogram a card; spectrum and weakness a basis; one proxy; two selections.
    assert len(pictures) == axes + 2 * 2 + 1 + 2


def test_it_holds_what_the_study_holds(tiny_study, page):
    about = tiny_study.about
    for said in (
        about["identity"]["weights"],
        about["corpus"]["hash"],
        tiny_study.basis("pca-1").fingerprint,
        tiny_study.selection("weakness").recipe["input_hash"],
        tiny_study.selection("weakness").recipe["how"],
        "exports/weakness-trl",
        "exports/weakness-hf",
        "torch",
        "Steered and unsteered",
        "The dictionary is not better than PCA",
        "Only an axis whose mark leaves the band",
    ):
        assert said in page.words
    for reason in tiny_study.selection("weakness").receipts["reason"][:10]:
        assert " ".join(reason.split()) in page.words
    for row in tiny_study.axes("pca-1").to_dict("records"):
        assert f"{row['variance']:.1%}" in page.words
        assert f"{row['stability']:.2f}" in page.words


def test_a_card_shows_the_examples_at_both_ends(tiny_study, page):
    coordinates = tiny_study.coordinates("pca-1")[:, 0]
    for row in (coordinates.argmax(), coordinates.argmin()):
        assert " ".join(tiny_study.corpus[int(row)].prompt_text.split()) in page.words
        z = coordinates[row] / tiny_study.basis("pca-1").scale_[0]
        assert f"z {z:+.2f}".replace("-", "−") in page.words


def test_it_is_headed_with_the_model_and_says_corpus_and_study_below(embedded_page, page):
    assert "Skill axes of tiny" in page.words
    assert "corpus demo · study tiny" in page.words
    assert "Skill axes of SmolLM2-135M-Instruct" in embedded_page.words


def test_the_null_is_called_chance_everywhere(page):
    assert "chance" in page.words
    assert not re.search(r"\bnull\b|\bluck\b", page.words)


def test_utilities_are_in_one_unit_in_table_figure_and_card(tiny_study, page):
    digits = decimals(1000 * tiny_study.axes("pca-1")[["utility", "low", "high"]].abs().max().max())
    for row in tiny_study.axes("pca-1").to_dict("records"):
        utility = signed(1000 * row["utility"], digits)
        assert f"{utility} {signed(1000 * row['low'], digits)} to" in page.words
        assert f"utility, 10⁻³ nats/token {utility}, chance ±" in page.words
    assert "Utility, 10⁻³ nats/token" in page.words


def test_the_figure_of_utilities_has_every_axis(tiny_study, written):
    text = written.read_text("utf-8")
    [drawn] = re.findall(r"Utility of each axis, with 95 %.*?</svg></div>", text, re.DOTALL)
    spoken = re.findall(r"<title>Axis (\d+)[ :(]", drawn)
    assert sorted(map(int, spoken)) == tiny_study.axes("pca-1")["axis"].tolist()


def test_the_last_steered_answers_are_shown_by_axis_and_dose(copied):
    file = copied / "results" / "steering-pca-1.parquet"
    pushes = [(axis, dose) for axis in (0, 1) for dose in (-2.0, 3.0)]
    rows = [
        {"axis": axis, "dose": dose, "max_new_tokens": 4, "prompt": f"ask {n}"}
        | {"unsteered": f"plain {axis} {n}.", "steered": f"pushed {axis} {dose:g} {n}."}
        for axis, dose in pushes
        for n in range(6)
    ]
    again = rows[-1] | {"max_new_tokens": 8, "steered": "a longer answer."}
    table = pd.DataFrame([*rows, again])
    table.attrs["basis"] = mn.Study.open(copied).basis("pca-1").fingerprint
    table.to_parquet(file)
    words = read(copied).words
    assert [words.count(f"Axis {a}, dose {d}") for a in (0, 1) for d in ("−2.0 σ", "+3.0 σ")] == [
        0,
        1,
        1,
        1,
    ]
    assert "The last 12 of 24 answers; all are in results/steering-pca-1.parquet" in words
    assert "pushed 1 -2 1." not in words
    for n in (2, 3, 4, 5):
        assert f"pushed 1 -2 {n}." in words
    assert "a longer answer." in words
    assert "pushed 1 3 5." not in words


def test_labels_notes_and_state_are_on_the_card(copied):
    said = mn.Study.open(copied).annotations
    for field, text in (
        ("positive", "Counting"),
        ("negative", "Spelling"),
        ("notes", "Look again"),
        ("state", "draft"),
    ):
        said.set("pca-1", 0, field, text)
    words = read(copied).words
    for text in ("Counting", "Spelling", "Look again", "draft", "Spelling ↔ Counting"):
        assert text in words


def test_missing_parts_are_left_out_with_the_command_that_makes_them(copied):
    for part in ("selections", "exports", "results"):
        shutil.rmtree(copied / part)
    page = read(copied)
    for command in (
        "proxy tiny --basis pca-1",
        'steer tiny "PROMPT" --axis 0 --basis pca-1',
        "select tiny",
        "export tiny",
    ):
        assert f"mnskills {command}" in page.words
    assert "Pushing along each axis" not in page.words
    assert "Steered and unsteered" not in page.words
    shutil.rmtree(copied / "bases")
    assert "mnskills fit tiny" in read(copied).words
    shutil.rmtree(copied / "activations.lance")
    assert "mnskills collect tiny" in read(copied).words


def test_hostile_text_is_shown_and_never_run(copied):
    rewrite_examples(copied, prompt=HOSTILE, response=HOSTILE, category=HOSTILE)
    said = mn.Study.open(copied).annotations
    for field in ("positive", "negative", "notes"):
        said.set("pca-1", 0, field, HOSTILE)
    page = read(copied)
    assert page.all("script") == []
    assert page.words.count('<script>alert("1")</script>') > 20
    raw = (copied / "report.html").read_text("utf-8")
    assert "🎈" in raw
    assert "\x00" not in raw
    assert "\x1b" not in raw


def test_long_texts_are_cut_in_sight(copied):
    rewrite_examples(copied, prompt="start " + "x" * 100_000 + " end of it", response="short")
    page = read(copied)
    raw = (copied / "report.html").read_text("utf-8")
    assert len(raw.encode()) < 3_000_000
    assert "end of it" not in raw
    assert not re.search("x{3000}", raw)
    assert re.search(r"Cut: [\d,]+ of 100,0\d\d characters are not in this file", page.words)
    assert "more characters" in page.words
    assert page.all("details")


def test_a_big_study_shows_less_of_each_and_stays_small(tiny_study, tmp_path, monkeypatch):
    whole = write_report(tiny_study, tmp_path / "whole.html").stat().st_size
    monkeypatch.setattr(report, "MOST_BYTES", whole)
    smaller = write_report(tiny_study, tmp_path / "smaller.html")
    assert smaller.stat().st_size < whole
    Page(smaller.read_text("utf-8"))
    monkeypatch.setattr(report, "DETAILS", report.DETAILS[-1:])
    barest = Page(write_report(tiny_study, tmp_path / "barest.html").read_text("utf-8"))
    ids = {attributes.get("id") for _, attributes in barest.tags}
    assert {link["href"].removeprefix("#") for link in barest.all("a")} <= ids
    monkeypatch.setattr(report, "MOST_BYTES", 1)
    with pytest.raises(mn.InputError, match="over 3 MB"):
        write_report(tiny_study, tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_no_path_of_the_machine_is_told(tiny_study, page):
    assert str(tiny_study.path.parent) not in page.words
    assert tiny_study.about["model"]["name"] not in page.words

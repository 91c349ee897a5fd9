"""The report: one file, whole, safe, the same each time."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import lance
import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.activations.store import METADATA_KEY
from mnskills_viz.activations.tokens import Role
from mnskills_viz.axes.examples import poles
from mnskills_viz.axes.heat import Heat
from mnskills_viz.steering.safe_band import safe_band
from mnskills_viz.widgets import report
from mnskills_viz.widgets.heat_strip import folded_heat, heat_sum, heat_text
from mnskills_viz.widgets.markup import decimals, signed
from mnskills_viz.widgets.report import write_report
from mnskills_viz.widgets.report_doses import kept_doses

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
        if not self.open or self.open[-1] not in ("style", "script"):
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
        ("quiz", "7/10"),
    ):
        said.set("pca-1", 0, field, text)
    words = read(copied).words
    for text in ("Counting", "Spelling", "Look again", "draft", "Spelling ↔ Counting"):
        assert text in words
    assert words.count("draft, quiz 7/10") == 1  # in the table of axes
    assert words.count("draft quiz 7/10") == 1  # on the card


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


# ---------------------------------------------------------------------------------------- heat

AWKWARD = ["a\r", "\n", " 👩‍🚀", "", "שלום", " <b>&amp;", "\ud800", "\x00", "x" * 300, "é"]


def heat_of(tokens: list[str], values: list[float], roles: list[int] | None = None) -> Heat:
    contributions = np.array([values, [0.0] * len(values)], dtype=np.float32).T
    return Heat(
        tokens=tokens,
        roles=np.array(roles or [Role.PROMPT] * len(tokens), dtype=np.uint8),
        counted=np.ones(len(tokens), dtype=bool),
        contributions=contributions,
        running=contributions.cumsum(axis=0),
    )


def painted(paragraph: dict[str, str | None], text: str) -> list[tuple[str, float]]:
    """What a script would make of a paragraph: tokens as they stand there, and their values."""
    values = np.frombuffer(base64.b64decode(paragraph["data-heat"]), dtype=np.int8)
    units, found, length = text.encode("utf-16-le", "surrogatepass"), [], 0
    for byte in base64.b64decode(paragraph["data-lengths"]):
        length += byte
        if byte < 255:
            token = units[: 2 * length].decode("utf-16-le", "surrogatepass")
            found.append((token, values[len(found)] / 127 * float(paragraph["data-most"])))
            units, length = units[2 * length :], 0
    assert len(found) == len(values)
    return [*found, (units.decode("utf-16-le"), 0.0)]


def strip(heat: Heat, whole: str, most: int) -> tuple[Page, list[tuple[str, float]]]:
    text = heat_text(heat, 0, 2.0)
    page = Page(folded_heat(text.prompt, whole, most, "prompt", text.strongest))
    paragraphs = [a for a in page.all("p") if "data-heat" in a]
    shown = [t for t in page.text if not re.fullmatch(r"[\d,]+ more characters|Cut: .*", t)]
    pairs = zip(paragraphs, shown, strict=True)
    return page, [token for pair in pairs for token in painted(*pair)]


def test_the_bytes_beside_a_text_say_what_each_token_adds():
    values = np.linspace(-3, 2, len(AWKWARD)).tolist()
    _, found = strip(heat_of(AWKWARD, values), "".join(AWKWARD), 10_000)
    shown = (
        "".join(AWKWARD).replace("\r\n", "\n").replace("\ud800", "\ufffd").replace("\0", "\ufffd")
    )
    assert "".join(token for token, _ in found) == shown
    at = {token: value for token, value in found if token}
    for token, value in (("שלום", values[4]), (" 👩‍🚀", values[2]), ("x" * 300, values[8])):
        assert at[token] == pytest.approx(value / 2, abs=1.5 / 127)


def test_a_folded_text_keeps_its_heat_and_counts_what_is_cut():
    tokens, values = [f" token{i:03}" for i in range(200)], np.arange(-100, 100.0).tolist()
    page, found = strip(heat_of(tokens, values), "".join(tokens), 900)
    assert "".join(t for t, _ in found).replace("…", "") == "".join(tokens)[:900]
    assert "Cut: 900 of 1,800 characters are not in this file" in page.words
    known = dict(zip(tokens, values, strict=True))
    for token, value in found:
        if token in known:
            assert value == pytest.approx(known[token] / 2, abs=0.6 * 50 / 127)


def test_what_the_model_did_not_read_stands_without_heat():
    _, found = strip(heat_of(["read", " this"], [1.0, 2.0]), "read this, not that", 1000)
    assert [(t, round(v, 2)) for t, v in found if t] == [
        ("read", pytest.approx(0.5, abs=0.01)),
        (" this", 1.0),
        (", not that", 0.0),
    ]


def test_the_sum_says_prompt_response_and_template():
    roles = [Role.TEMPLATE, Role.PROMPT, Role.TEMPLATE, Role.PROMPT, Role.RESPONSE]
    text = heat_text(heat_of(list("tpqPr"), [1, 2, 3, 4, -5], roles), 0, 2.0)
    assert [token for token, _ in text.prompt] == ["p", "\n\n", "P"]
    assert "prompt +3.00, response −2.50, template +2.00; sum +2.50" in heat_sum(text).replace(
        "\xa0", " "
    )


@pytest.fixture(scope="module")
def heated(tiny_study: mn.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study that has heat of what one basis's cards show, and doses."""
    folder = tmp_path_factory.mktemp("heated") / "tiny"
    shutil.copytree(tiny_study.path, folder)
    study = mn.Study.open(folder)
    z = study.z("pca-1")
    shown = {int(i) for axis in z.T for sign in (1, -1) for i in poles(axis, 6).of(sign)}
    study.heat("pca-1", sorted(shown))
    study.dose_response("pca-1", 2, doses=(-1, 1), max_new_tokens=4, progress=False)
    for field, text in (("positive", HOSTILE), ("negative", "Spelling"), ("state", "draft")):
        study.annotations.set("pca-1", 0, field, text)
    return write_report(study, folder / "report.html")


def test_only_our_script_may_run(heated):
    text = heated.read_text("utf-8")
    assert len(text.encode()) < 3_000_000
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [m["content"] for m in Page(text).all("meta") if "http-equiv" in m]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_the_sum_of_the_heat_is_the_coordinate_on_the_card(heated, tiny_study):
    words = Page(heated.read_text("utf-8")).words
    z = tiny_study.z("pca-1")[:, 0]
    for row in (z.argmax(), z.argmin()):
        found = re.findall(rf"z {re.escape(signed(float(z[row])))} .*?; sum ([+−][\d.]+)", words)
        assert abs(float(found[0].replace("−", "-")) - z[row]) < 0.011


def test_the_text_reads_the_same_with_and_without_heat(heated, tiny_study):
    words = Page(heated.read_text("utf-8")).words
    row = int(tiny_study.z("pca-1")[:, 0].argmax())
    assert " ".join(tiny_study.corpus[row].prompt_text.split()) in words
    assert " ".join(tiny_study.corpus[row].response.split()) in words


def test_where_there_is_little_room_heat_goes_with_the_text(heated, monkeypatch, tmp_path):
    study = mn.Study.open(heated.parent)
    monkeypatch.setattr(report, "DETAILS", report.DETAILS[-1:])
    barest = Page(write_report(study, tmp_path / "barest.html").read_text("utf-8"))
    assert barest.all("script") == []


# --------------------------------------------------------------------------------------- doses


def test_dose_curves_are_there_with_the_safe_band(heated):
    study = mn.Study.open(heated.parent)
    [(axis, table)] = kept_doses(study, "pca-1").items()
    asked = study.dose_response("pca-1", 2, (-1, 1), max_new_tokens=4, progress=False)
    pd.testing.assert_frame_equal(table, asked)
    assert axis == 2
    words = Page(heated.read_text("utf-8")).words
    low, high = safe_band(table)
    said = f"{low:+.0f} to {high:+.0f} σ".replace("-", "−") if low < high else "none of those tried"
    assert f"safe doses {said}" in words
    assert "carried to a later block" in words
    assert kept_doses(study, "sae-1") == {}


def test_doses_on_other_prompts_are_shown_as_such(heated, tmp_path):
    study = mn.Study.open(shutil.copytree(heated.parent, tmp_path / "tiny"))
    asked = [
        study.dose_response("pca-1", axis, (1,), ["other", "and more"], 4, progress=False)
        for axis in (2, 3)
    ]
    tables = kept_doses(study, "pca-1")
    assert list(tables) == [2, 3]
    pd.testing.assert_frame_equal(tables[3], asked[1])
    assert tables[2]["dose"].tolist() == [-1.0, 0.0, 1.0]  # of the study's own prompts
    words = Page(write_report(study, tmp_path / "r.html").read_text("utf-8")).words
    assert words.count("Tried on 2 other prompts than the study's own.") == 1


def test_doses_of_an_earlier_fit_are_not_shown(heated, tmp_path):
    study = mn.Study.open(shutil.copytree(heated.parent, tmp_path / "tiny"))
    study.fit("pca", layer=1, n_axes=5)
    assert kept_doses(study, "pca-1") == {}


def test_a_damaged_dose_is_left_out(heated, tmp_path):
    study = mn.Study.open(shutil.copytree(heated.parent, tmp_path / "tiny"))
    [damaged] = (study.path / "results" / "responses-pca-1").glob("2-*--1.0.json")
    damaged.write_text("{}")
    assert kept_doses(study, "pca-1")[2]["dose"].tolist() == [0.0, 1.0]


# ------------------------------------------------------------------------------------- browser

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser, file: Path, **options):
    """A page that has loaded, and what its console says."""
    page, said = browser.new_page(**options), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    return page, said


@pytest.mark.browser
def test_a_browser_paints_the_tokens_and_shows_the_same_text(heated, browser):
    plain, _ = opened(browser, heated, java_script_enabled=False)
    page, said = opened(browser, heated)
    card = page.locator("#b0-axis-0")
    card.scroll_into_view_if_needed()
    page.wait_for_selector("#b0-axis-0 .heat .strong")
    assert card.text_content() == plain.locator("#b0-axis-0").text_content()
    colours = {
        sign: card.locator(f".{sign}.strong").first.evaluate(
            "(e) => [getComputedStyle(e).backgroundColor, getComputedStyle(e).textDecorationStyle]"
        )
        for sign in ("adds", "takes")
    }
    assert colours["adds"][0] != colours["takes"][0]
    assert [style for _, style in colours.values()] == ["solid", "dotted"]
    assert said == []


@pytest.mark.browser
def test_what_a_browser_paints_adds_up(heated, browser, tiny_study):
    page, _ = opened(browser, heated)
    page.locator("#b0-axis-0").scroll_into_view_if_needed()
    page.wait_for_selector("#b0-axis-0 .heat span")
    first = page.locator("#b0-axis-0 .positive li").first
    titles = first.locator(".heat span").evaluate_all("(all) => all.map((e) => e.title)")
    # Each token's byte is rounded; the template's tokens are not in the text.
    values = [float(title.replace("−", "-")) for title in titles]
    strongest = max(map(abs, values))
    tokens = len(values)
    assert abs(sum(values) - tiny_study.z("pca-1")[:, 0].max()) < tokens * strongest / 127 + 0.01


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_page(
    heated, browser, width, scheme
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    view = {"width": width, "height": 900}
    page, _ = opened(browser, heated, viewport=view, color_scheme=scheme)
    page.locator("#b0-axis-0").scroll_into_view_if_needed()
    page.wait_for_selector("#b0-axis-0 .heat span")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(page).response["violations"]
    serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


@pytest.mark.browser
def test_it_prints_with_the_heat_of_what_is_open(heated, browser):
    page, _ = opened(browser, heated)
    assert page.locator("#b0-axis-7 .heat span").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#b0-axis-7 .heat span").count() > 0
    assert page.pdf().startswith(b"%PDF")

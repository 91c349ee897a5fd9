import mnskills_viz as mn
from mnskills_viz.widgets.cards import axis_card, axis_list
from mnskills_viz.widgets.facts import BasisFacts
from mnskills_viz.widgets.state import ExplorerState
from mnskills_viz.widgets.static_twin import static_html

BASIS = "pca-1"


def twin(study: mn.Study, said=None, basis: str = BASIS) -> str:
    facts, said, state = BasisFacts(study, basis), said or {}, ExplorerState(basis)
    return static_html(axis_list(facts, said, state), axis_card(facts, said, state), "mn-x")


def test_it_names_all_axes_and_escapes_what_people_wrote(tiny_study):
    nasty = "<img src=x onerror=alert(1)>"
    html = twin(tiny_study, {0: {"positive": nasty, "negative": "", "notes": "", "state": ""}})
    assert html.count("<tr>") == tiny_study.basis(BASIS).n_axes_ + 1
    assert html.startswith('<div class="mn-x">')
    assert "<img" not in html
    assert "&lt;img src=x" in html
    assert len(html) < 20_000


def test_it_says_the_unit_of_utility_once_and_the_numbers_in_it(tiny_study):
    html = twin(tiny_study)
    assert html.count("10⁻³ nats/token") == 1
    for utility in tiny_study.axes(BASIS)["utility"]:
        assert f">{1000 * utility:+.1f}<".replace("-", "−") in html


def test_a_basis_without_utilities_leaves_them_empty(tiny_study):
    other = next(name for name in tiny_study.basis_names if name != BASIS)
    assert "chance" not in twin(tiny_study, basis=other)


def test_it_says_how_sure_somebody_is_of_the_names(tiny_study):
    html = twin(tiny_study, {0: {"state": "confirmed", "quiz": "9/10", "notes": "not length"}})
    assert "<summary>Axis 0, confirmed, quiz 9/10</summary>" in html
    assert html.count("<td>confirmed</td>") == 1
    assert "not length" in html


def test_labels_as_long_as_books_stay_short_and_turn_nothing_round(tiny_study):
    label = "\u202eשלום <script>" + "x" * 100_000
    html = twin(tiny_study, {a: dict.fromkeys(("positive", "notes"), label) for a in range(8)})
    assert len(html) < 20_000
    assert "<script" not in html
    assert "<bdi>\u202eשלום &lt;script&gt;xxx" in html

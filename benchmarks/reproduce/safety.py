"""Safety: how near a selection lies to families of attacks that it has not seen.

Each family in turn is left out: axes are fitted without it, rows are selected without it, and its
rows are those to be covered. No answer is generated, and no text of a request is in the results.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

import mnskills_viz as mn
from mnskills_viz.corpus import Corpus
from mnskills_viz.corpus.adversarial import adversarial_corpus, safety_stand_in
from mnskills_viz.corpus.splits import hash_of_id
from mnskills_viz.selection.measures import coverage
from mnskills_viz.selection.text_vectors import text_vectors

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Source = str | Path | Sequence[str] | Corpus
FloatArray = NDArray[np.floating[Any]]

BUDGETS = (8, 16, 32, 64, 128, 256, 512)
RANDOM = "random"
STRATEGIES = (RANDOM, "k_center", "d_optimal", "text_diversity")
"""``"k_center"`` is the authors' rule: the point farthest from those taken, in whitened PCA, from
the point farthest from the mean on."""

REFERENCES = ("text_diversity", RANDOM)
LEAST_ROWS, LEAST_FAMILIES = 4, 3
AXES = 25
"""Of the space that is selected in, as the authors have it."""

RIDGE = 1.0
"""Of the log determinant; one for all budgets, so that they compare."""

RESAMPLES = 2000


def measure_coverage(
    model: "TransformersModel",
    behaviours: Source | None = None,
    templates: Source | None = None,
    *,
    layer: int,
    ruler_layer: int,
    rows: int | None = None,
    budgets: Sequence[int] = BUDGETS,
    n_random: int = 10,
    n_axes: int = AXES,
    store: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Select without a family of attacks, and measure how near to the selection that family lies.

    Parameters
    ----------
    model : TransformersModel
        A row is its residual stream at the last token of the generation prompt.
    behaviours, templates : path, sequence of str, or Corpus, optional
        As `adversarial_corpus` takes them; default the project's harmless stand-in. A family is
        a column of the templates, or follows from rules on their text: no activation is seen.
    layer : int
        The skill space that is selected in, and the first ruler.
    ruler_layer : int
        Another layer, which no selection saw.
    rows : int, optional
        At most so many prompts, as many of each family as there are, drawn by a hash of the ids;
        default all.
    budgets : sequence of int
        Rows to select; those beyond two thirds of the smallest pool are dropped.
    n_random : int
        Seeds of the random draw.
    n_axes : int
        Whitened principal axes; a quarter of the pool's rows at most.
    store : path, optional
        Where the rows are kept; a second call goes on where the first was stopped.
    progress : bool

    Returns
    -------
    dict
        JSON-ready. ``data`` (``rows``, ``families``: rows of each, ``files``: SHA-256 of each
        source, ``text_vectors``: what made them), ``rulers`` (the selection's own layer first),
        ``budgets``, ``held_out`` (families with four rows or more), and ``table``, a row a
        held-out family, strategy, budget, seed and ruler: ``radius`` (distance of the family's
        farthest row from the nearest one taken, in standard deviations, between texts 0 to 2),
        ``radius_95`` (of all but the farthest twentieth: one odd row decides the radius),
        ``log_det``, ``empty_bins``; see `mnskills_viz.selection.measures.coverage`.

    Raises
    ------
    InputError
        Fewer than three families of four rows, budgets that are none or all too large, the same
        layer twice, or what `adversarial_corpus` or `collect` refuses.
    """
    if layer == ruler_layer:
        raise mn.InputError(f"safety: ruler_layer must be another layer than {layer}")
    if n_random < 1 or not budgets or min(budgets) < 1:
        raise mn.InputError("safety: n_random and all budgets must be at least 1, one budget given")
    sources = {
        "behaviours": safety_stand_in("behaviours") if behaviours is None else behaviours,
        "templates": safety_stand_in("templates") if templates is None else templates,
    }
    attacks = spread(adversarial_corpus(sources["behaviours"], sources["templates"]), rows)
    families = families_of(attacks)
    sizes = sizes_of(attacks)
    held_out = large_families(sizes)
    smallest = len(attacks) - max(sizes[family] for family in held_out)
    fitting = [budget for budget in sorted(set(budgets)) if budget <= 2 * smallest // 3]
    if not fitting:
        raise mn.InputError(
            f"safety: without its largest family the pool has {smallest} rows, and two thirds of "
            f"it are fewer than the smallest budget, {min(budgets)}"
        )
    acts = mn.collect(
        model,
        attacks,
        layers=sorted((layer, ruler_layer)),
        pooling="last",
        tokens="prompt",
        store=store,
        progress=progress,
    )
    matrices = {f"layer {one}": acts.matrix(one) for one in (layer, ruler_layer)}
    texts = text_vectors([example.prompt_text for example in attacks])
    table: list[dict[str, Any]] = []
    for family in tqdm(held_out, desc="families", unit="family", disable=not progress):
        pool = families != family
        spaces = {ruler: whitened(X, pool, n_axes) for ruler, X in matrices.items()}
        spaces["text"] = texts.vectors
        table += covered(spaces, pool, attacks.ids, family, fitting, n_random)
    return {
        "data": {
            "rows": len(attacks),
            "families": sizes,
            "files": {name_of(what, source): digest(source) for what, source in sources.items()},
            "text_vectors": texts.made_by,
        },
        "rulers": [*matrices, "text"],
        "budgets": fitting,
        "held_out": held_out,
        "table": table,
    }


# -------------------------------------------------------------------------- rows and spaces


def spread(corpus: Corpus, rows: int | None) -> Corpus:
    """So many examples, as many of each family as there are, whatever the order they come in."""
    if rows is None or rows >= len(corpus):
        return corpus
    order = sorted(range(len(corpus)), key=lambda i: hash_of_id(corpus[i].id))
    families = pd.Series([corpus[i].category for i in order])
    turns = families.groupby(families).cumcount().to_numpy()
    drawn = np.argsort(turns, kind="stable")[:rows]
    return corpus.take(sorted(order[i] for i in drawn))


def families_of(attacks: Corpus) -> NDArray[Any]:
    """Family of each row, [n]."""
    return np.array([str(example.category) for example in attacks], dtype=object)


def sizes_of(attacks: Corpus) -> dict[str, int]:
    """Rows of each family, in the order in which they come."""
    return dict(Counter(families_of(attacks).tolist()))


def large_families(sizes: Mapping[str, int]) -> list[str]:
    """Families with rows enough to be held out.

    Raises
    ------
    InputError
        Fewer than three.
    """
    found = [family for family, size in sizes.items() if size >= LEAST_ROWS]
    if len(found) < LEAST_FAMILIES:
        raise mn.InputError(
            f"safety: {len(found)} families have {LEAST_ROWS} rows or more; expected "
            f"{LEAST_FAMILIES} families: give more templates, or more rows"
        )
    return found


def whitened(X: FloatArray, pool: NDArray[np.bool_], n_axes: int) -> FloatArray:
    """All rows on the pool's principal axes, each divided by the pool's spread there, [n, k]."""
    basis = mn.PCABasis(n_axes=min(n_axes, int(pool.sum()) // 4)).fit(X[pool])
    z: FloatArray = basis.transform(X) / basis.scale_
    return z


def covered(
    spaces: dict[str, FloatArray],
    pool: NDArray[np.bool_],
    ids: Sequence[str],
    family: str,
    budgets: Sequence[int],
    n_random: int,
) -> Iterator[dict[str, Any]]:
    """What each strategy takes of a pool, measured on the rows outside of it by every ruler.

    The first space is the one that is selected in; ``spaces["text"]`` is text diversity's.
    """
    inside = {ruler: space[pool] for ruler, space in spaces.items()}
    outside = {ruler: space[~pool] for ruler, space in spaces.items()}
    names = list(itertools.compress(ids, pool))
    for strategy, budget in itertools.product(STRATEGIES, budgets):
        for seed in range(n_random if strategy == RANDOM else 1):
            skill = next(iter(inside.values()))
            chosen = taken(strategy, skill, inside["text"], names, budget, seed)
            for ruler in spaces:
                found = coverage(inside[ruler], chosen, outside[ruler], ridge=RIDGE)
                yield {
                    "family": family,
                    "strategy": strategy,
                    "budget": budget,
                    "seed": seed,
                    "ruler": ruler,
                    "radius": found.radius,
                    "radius_95": found.radius_95,
                    "log_det": found.log_det,
                    "empty_bins": found.empty_bins,
                }


def taken(
    strategy: str,
    skill: FloatArray,
    texts: FloatArray,
    ids: Sequence[str],
    budget: int,
    seed: int,
) -> NDArray[np.int64]:
    """Rows that a strategy takes, by where they lie in skill space or, text diversity, in texts."""
    return mn.select(
        skill,
        strategy,
        budget,
        ids=ids,
        texts=texts if strategy == "text_diversity" else None,
        text_similarity=None,  # wrappers repeat by design
        seed=seed,
    ).indices


def name_of(what: str, source: Source) -> str:
    """How a source is called in the results."""
    return Path(source).name if isinstance(source, str | Path) else what


def digest(source: Source) -> str:
    """SHA-256 of a file, or of the rows that were given."""
    if isinstance(source, str | Path):
        return hashlib.sha256(Path(source).read_bytes()).hexdigest()
    if isinstance(source, Corpus):
        return source.hash
    return hashlib.sha256("\0".join(source).encode("utf-8", "surrogatepass")).hexdigest()


# ------------------------------------------------------------------------ sample efficiency


def sample_efficiency(
    table: Iterable[dict[str, Any]],
    references: Sequence[str] = REFERENCES,
    measure: str = "radius",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How few rows a strategy needs to cover as well as another does with more.

    Curves are means over the families, of each the mean over seeds. On a strategy's curve, the
    first budget that comes down to what the reference has with `budget` rows is looked for,
    interpolated in the logarithm of the budget.

    Parameters
    ----------
    table : iterable of dict
        ``table`` of `measure_coverage`.
    references : sequence of str
        Strategies to be compared with.
    measure : str
        ``"radius"``, ``"radius_95"`` or ``"empty_bins"``: small is good.
    seed : int
        Of the bootstrap over families.

    Returns
    -------
    list of dict
        A row a ruler, reference, strategy and budget: ``ruler reference strategy budget value``
        (the reference's, with this budget), ``reached_at`` (rows that the strategy needs for it;
        the smallest budget means so many or fewer, None more than the largest), ``low`` and
        ``high`` (95 %, bootstrap over families, read alike).

    Raises
    ------
    InputError
        A reference that is not in the table, or a family, strategy and budget that is missing.
    """
    rows: list[dict[str, Any]] = []
    for ruler, part in pd.DataFrame(table).groupby("ruler", sort=False):
        means = part.groupby(["strategy", "family", "budget"])[measure].mean()
        cells = means.unstack(["family", "budget"])
        if cells.isna().to_numpy().any() or set(references) - set(cells.index):
            raise mn.InputError(
                f"safety: by {ruler} the table lacks a reference of {', '.join(references)}, or a "
                "family at some strategy and budget"
            )
        budgets = np.array(sorted(part["budget"].unique()))
        curves = {
            str(name): _resampled(means.loc[name].unstack("budget").to_numpy(), seed)
            for name in part["strategy"].unique()
        }
        for reference, strategy in itertools.product(references, curves):
            if strategy == reference:
                continue
            for place, budget in enumerate(budgets):
                values = curves[reference][:, place]
                reached = _reached(curves[strategy], values, budgets)
                low, high = _interval(reached[1:])
                rows.append(
                    {
                        "ruler": ruler,
                        "reference": reference,
                        "strategy": strategy,
                        "budget": int(budget),
                        "value": float(values[0]),
                        "reached_at": _finite(reached[0]),
                        "low": _finite(low),
                        "high": _finite(high),
                    }
                )
    return rows


def _resampled(curves: FloatArray, seed: int) -> FloatArray:
    """Mean of the families' curves [families, budgets], and its resamples, [1 + R, budgets].

    Equal seeds draw equal families, so that strategies are paired.
    """
    n = len(curves)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.concatenate([np.ones((1, n)), counts]) @ curves / n


def _reached(curves: FloatArray, values: FloatArray, budgets: NDArray[Any]) -> FloatArray:
    """The budgets at which curves [m, budgets] come down to values [m], inf where they do not."""
    there = curves <= values[:, None]
    first = there.argmax(axis=1)
    before, line = np.maximum(first - 1, 0), np.arange(len(curves))
    drop = curves[line, before] - curves[line, first]
    share = (curves[line, before] - values) / np.where(drop > 0, drop, 1)
    logs = np.log(budgets)
    between = np.exp(logs[before] + share * (logs[first] - logs[before]))
    found: FloatArray = np.where(first == 0, float(budgets[0]), between)
    return np.where(there.any(axis=1), found, np.inf)


def _interval(draws: FloatArray) -> tuple[float, float]:
    """2.5 % and 97.5 % points that occur: between a number and infinity there is no mean."""
    ordered, n = np.sort(draws), len(draws)
    return float(ordered[int(0.025 * n)]), float(ordered[int(np.ceil(0.975 * n)) - 1])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

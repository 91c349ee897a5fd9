"""The neighbours panel: axes of other bases that go with one, and latents behind it."""

from collections.abc import Sequence
from typing import Any

from ...axes.neighbours import are_of_one_space, latents_behind
from ...study import Study
from .naming import Json, PoleNames, finite

SIMILAR = 8
LATENTS = 8
MEASURES = ("cosine", "correlation", "share", "density")


def neighbours(study: Study, basis: str, axis: int) -> Json:
    """Axes of the other bases that go with an axis, and the latents of dictionaries behind it.

    Returns
    -------
    dict
        ``basis axis python``; ``axes``: ``basis axis name cosine correlation``, most alike first;
        the name is that of the end that goes with this axis's positive one; ``latents``: ``basis
        latent cosine correlation share density``, the largest share of
        the coordinate first. What is not known is None.
    """
    similar = study.neighbours(basis, axis).head(SIMILAR)
    return {
        "basis": basis,
        "axis": axis,
        "busy": False,
        "axes": _named(study, [_similar(row) for row in similar.to_dict("records")]),
        "latents": _latents(study, basis, axis),
        "python": f"study.neighbours({basis!r}, axis={axis})",
    }


def _similar(row: dict[Any, Any]) -> Json:
    alike = {name: finite(row[name]) for name in ("cosine", "correlation")}
    return {"basis": row["basis"], "axis": int(row["axis"]), **alike}


def _named(study: Study, found: Sequence[Json]) -> list[Json]:
    names = {name: PoleNames(study, name) for name in {one["basis"] for one in found}}
    return [
        one
        | {"name": names[one["basis"]].of(one["axis"], 1 if (one["correlation"] or 0) >= 0 else -1)}
        for one in found
    ]


def _latents(study: Study, basis: str, axis: int) -> list[Json]:
    """Of every dictionary in this basis's space, the latents that the axis is made of."""
    fitted = study.basis(basis)
    found: list[Json] = []
    for name in study.basis_names:
        other = study.basis(name)
        if not hasattr(other, "dictionary_") or not are_of_one_space(other.source_, fitted.source_):
            continue
        X = study.activations.matrix_as(fitted.source_ or {})
        for row in latents_behind(other.dictionary_, fitted, axis, X, LATENTS).to_dict("records"):
            measures = {name: finite(row[name]) for name in MEASURES}
            found.append({"basis": name, "latent": int(row["latent"]), **measures})
    found.sort(key=lambda one: -(one["share"] or 0.0))
    return found[:LATENTS]

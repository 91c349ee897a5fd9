"""The part of the report on the library's defaults."""

from collections import Counter
from collections.abc import Iterator, Sequence

from . import figures
from .stored import Json, Stored
from .trained_sections import Drawings
from .words import UNKNOWN, cell, counted, plain, table


def defaults_part(stored: Stored, drawn: Drawings) -> Iterator[str]:
    """What was measured about the library's defaults, on the probe set alone."""
    defaults = stored.defaults
    if not defaults:
        return
    yield "## What decides the library's defaults\n"
    yield (
        f"How well coordinates of a prompt foretell the error of its example: held-out R² of "
        f"{counted(defaults['errors'], 'probe example')}, in brackets 95 % over examples.\n"
    )
    yield from _r2_part(defaults["r2"], drawn)
    if best := defaults.get("chosen"):
        yield (
            f"Chosen by one half of the probe and tried on the other, "
            f"{counted(best['choices'], 'time')}: R² {plain(best['r2_chosen'])}, against "
            f"{plain(best['r2_default'])} of the library's default; a difference of "
            f"{plain(best['difference'])} ({plain(best['low'])} to {plain(best['high'])}). Chosen "
            f"most often, {best['times']} times: {cell(best['kind'])}, layer {best['layer']}, "
            f"{cell(best['pooling'])} pooling, {counted(best['n_axes'], 'axis', 'axes')}.\n"
        )
    yield "Error that a quota rule finds in the other half, less the mean error of that half:\n"
    yield from table(
        ["rule", "excess error", "95 % of the ways to halve the probe"],
        (
            [
                cell(row["rule"]),
                plain(row["excess"], 4),
                f"{plain(row['from'], 4)} to {plain(row['to'], 4)}",
            ]
            for row in defaults["quota"]
        ),
    )


def _r2_part(rows: Sequence[Json], drawn: Drawings) -> Iterator[str]:
    """By layer, of one kind and number of axes; by number, at one layer; by kind."""
    of_prompts = [row for row in rows if row["kind"] == rows[0]["kind"]]
    number = Counter(row["n_axes"] for row in of_prompts).most_common(1)[0][0]
    layer = Counter(row["layer"] for row in of_prompts).most_common(1)[0][0]
    by_layer = [row for row in of_prompts if row["n_axes"] == number]
    poolings = list(dict.fromkeys(row["pooling"] for row in by_layer))
    lines = {p: [row["r2"] for row in by_layer if row["pooling"] == p] for p in poolings}
    title = f"R² by layer: {number} {rows[0]['kind']} axes of prompts, by how tokens are pooled"
    layers = list(dict.fromkeys(row["layer"] for row in by_layer))
    drawn["defaults"] = figures.curves(title, layers, {"": lines}, "layer")
    yield "![R² by layer and pooling](figures/defaults.svg)\n"
    yield f"At layer {cell(layer)}, by the number of axes, and by what they were fitted on:\n"
    yield from _r2_table("number of axes", "n_axes", [r for r in of_prompts if r["layer"] == layer])
    yield from _r2_table("axes of", "kind", [row for row in rows if row not in of_prompts])
    yield "<details><summary>By layer</summary>\n"
    yield from _r2_table("layer", "layer", by_layer)
    yield "</details>\n"


def _r2_table(word: str, key: str, rows: Sequence[Json]) -> Iterator[str]:
    """A row for each value of `key`, a column for each pooling."""
    if not rows:
        return
    shown = {
        (row[key], row["pooling"]): f"{plain(row['r2'])} "
        f"({plain(row['low'])} to {plain(row['high'])})"
        for row in rows
    }
    poolings = list(dict.fromkeys(row["pooling"] for row in rows))
    heads = {"mean": "mean over tokens", "last": "last token"}
    yield from table(
        [word, *(heads.get(pooling, cell(pooling)) for pooling in poolings)],
        (
            [cell(value), *(shown.get((value, pooling), UNKNOWN) for pooling in poolings)]
            for value in dict.fromkeys(row[key] for row in rows)
        ),
    )

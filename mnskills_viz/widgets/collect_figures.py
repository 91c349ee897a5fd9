"""Figures of a collection: which tokens count, and which stand out.

Functions from values to a string of HTML, the same string for the same values. Each carries its
colours for light and dark with it, so that it can stand alone in the output of a notebook's cell.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from . import drawing as draw
from .drawing import BLUE, GREEN, INK, ORANGE, Scale
from .markup import Markup, joined, rounded, tag

PROMPT, RESPONSE, SINK = BLUE, GREEN, ORANGE
ROLES = {"template": INK, "prompt": PROMPT, "response": RESPONSE}

STYLE = """
.mn-tokens{font:13px/1.9 var(--jp-code-font-family,ui-monospace,monospace);white-space:pre-wrap;
overflow-wrap:anywhere}
.mn-tokens i{font-style:normal;padding:2px 0;margin-right:1px;border-radius:2px}
.mn-tokens .template{opacity:.62}
.mn-tokens .prompt{background:color-mix(in srgb,var(--mn-blue,#0a6fb0) 17%,transparent);
box-shadow:inset 0 -2px var(--mn-blue,#0a6fb0)}
.mn-tokens .response{background:color-mix(in srgb,var(--mn-green,#00805f) 17%,transparent);
box-shadow:inset 0 -2px var(--mn-green,#00805f)}
.mn-tokens .sink{outline:2px dashed var(--mn-orange,#c2590a);outline-offset:-1px;opacity:1}
.mn-tokens .key{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:12px;
line-height:1.6;margin-bottom:8px}
.mn-tokens .key i{padding:1px 5px;margin-right:12px}
"""

MOST_TOKENS = 600
SHADES = 24
NAMES_A_MAP = 5


# -------------------------------------------------------------------------------------- tokens


def token_strip(tokens: pd.DataFrame) -> str:
    """Text of an example, token by token, marked by role and by what is left out of a mean.

    Parameters
    ----------
    tokens : DataFrame
        As `Activations.tokens` gives it. Beyond 600 tokens the rest is only counted.

    Returns
    -------
    str
        HTML. A dashed outline: left out as an attention sink, at some layer or at all of them.
    """
    sinks = _sinks(tokens)
    key = []
    for role, counts in tokens.groupby("role", sort=False)["counted"]:
        rest = "" if counts.any() else ", not counted"
        key.append(tag("i", f"{role}{rest}: {len(counts)}", class_=str(role)))
    key.append(tag("i", f"attention sink, left out: {len(sinks)}", class_="sink"))
    shown = [_token(row, sinks) for row in tokens.head(MOST_TOKENS).to_dict("records")]
    if len(tokens) > MOST_TOKENS:
        shown.append(Markup(f" … {len(tokens) - MOST_TOKENS:,} more tokens"))
    text = tag("div", *shown, dir="auto")
    strip = tag("div", tag("div", *key, class_="key"), text, class_="mn-tokens")
    return draw.alone(strip, style=STYLE)


def _sinks(tokens: pd.DataFrame) -> dict[int, str]:
    """Positions that are left out of a mean as sinks, and where: the first token everywhere."""
    first = tokens["token_id"].ne(tokens["token_id"].iloc[0]).cumsum().eq(0)
    found = {int(position): "every layer" for position in tokens.loc[first, "position"]}
    for position, layers in zip(tokens["position"], tokens["sink_at"], strict=True):
        if len(layers):
            found[int(position)] = f"layers {layers[0]} to {layers[-1]}"
    return found


def _token(row: Mapping[Any, Any], sinks: Mapping[int, str]) -> Markup:
    position, role, text = row["position"], row["role"], str(row["text"])
    counts = "counts" if row["counted"] else "does not count"
    where = f", left out at {sinks[position]}" if position in sinks else ""
    drawn = tag(
        "i",
        text.replace("\n", "↵"),
        class_=f"{role} sink" if position in sinks else role,
        title=f"token {position}: {role}, {counts}{where}",
    )
    return joined([drawn, Markup("\n" * text.count("\n"))])


def counted_tokens(roles: Mapping[str, Sequence[str]], masks: Mapping[str, ArrayLike]) -> str:
    """Which tokens of an example each choice counts: a row a choice, a cell a token.

    Parameters
    ----------
    roles : mapping of str to sequence of str
        Choice -> role of each token: ``template``, ``prompt`` or ``response``.
    masks : mapping of str to array_like of bool, [n_tokens]
        Choice -> which tokens count.
    """
    kept = {name: np.asarray(mask, dtype=bool) for name, mask in masks.items()}
    width = max((len(mask) for mask in kept.values()), default=1)
    row, top = 25.0, 4.0
    parts: list[Markup] = []
    for i, (name, mask) in enumerate(kept.items()):
        y = top + row * i
        said = tag("title", f"tokens={name!r}: {mask.sum()} of {len(mask)} tokens count")
        owners = np.asarray(roles[name])
        full = [(_marks(mask & (owners == role)), colour) for role, colour in ROLES.items()]
        drawn = [tag("path", d=d, fill=colour, fill_opacity=0.85) for d, colour in full if d]
        rest = tag("path", d=_marks(~mask, 0.88), fill_opacity=0.4)
        box = {"x": "11%", "y": y, "width": "77%", "height": 15}
        fit = {"viewBox": f"0 0 {width} 1", "preserveAspectRatio": "none"}
        cells = tag("svg", *drawn, rest, **box, **fit)  # type: ignore[arg-type]
        name_and_number = (
            draw.text(name, 0, y + 12, font_weight="600"),
            draw.text(f"{mask.sum()} of {len(mask)}", 100, y + 12, "end"),
        )
        parts.append(tag("g", said, *name_and_number, cells))
    spoken = ", ".join(f"{name} {mask.sum()} of {len(mask)}" for name, mask in kept.items())
    title = "Which tokens each choice counts"
    return draw.alone(draw.figure(title, f"{spoken}.", top + row * len(kept), parts))


def _marks(wanted: NDArray[np.bool_], top: float = 0.0) -> str:
    """A mark for each token in its cell of one by one, from `top` down."""
    return "".join(f"M{p}.09 {top}h.82V1h-.82Z" for p in np.flatnonzero(wanted))


# --------------------------------------------------------------------------------------- norms


def norm_map(norms: ArrayLike, tokens: pd.DataFrame, ratio: float = 4.0) -> str:
    """Norm of the residual stream at every token and layer, on a log scale; what stands out named.

    Parameters
    ----------
    norms : array_like, [n_layers, n_tokens]
    tokens : DataFrame
        As `Activations.tokens` gives it.
    ratio : float
        Above so many times the median of its layer a token stands out.
    """
    values = np.asarray(norms, dtype=np.float64)
    n_layers, n_tokens = values.shape
    times = values / np.median(values, axis=1, keepdims=True)
    out = times > ratio
    logs = np.log10(np.maximum(values, 1e-9))
    low = math.floor(2 * logs.min()) / 2
    high = max(low + 0.5, math.ceil(2 * logs.max()) / 2)
    shades = np.clip((logs - low) / (high - low) * SHADES, 0, SHADES - 1).astype(int)
    top, cell = 56.0, 7.0
    bottom = top + cell * n_layers
    scale = Scale(0, n_tokens, 7, 100)
    box = {"width": draw.pc(scale.right - scale.left), "height": rounded(cell * n_layers)}
    cells = tag(
        "svg",
        *_cells(shades, out),
        x=draw.pc(scale.left),
        y=top,
        viewBox=f"0 0 {n_tokens} {n_layers}",
        preserveAspectRatio="none",
        shape_rendering="crispEdges",
        **box,
    )
    parts = [*_norm_key(low, high, ratio), *_names(out, tokens, scale, top), cells]
    parts += _spoken_columns(values, times, tokens, scale, (top, bottom - top))
    for layer in range(0, n_layers, 5):
        y = bottom - cell * (layer + 0.5) + 4
        parts.append(draw.text(str(layer), 6, y, "end", faint=True))
    parts += [
        draw.text("layer", 6, top - 8, "end", faint=True),
        *_role_band(tokens, scale, bottom + 5),
    ]
    layer, position = divmod(int(times.argmax()), n_tokens)
    description = (
        f"{n_layers} layers by {n_tokens} tokens, norms from {values.min():,.0f} to "
        f"{values.max():,.0f}. Token {position} reaches {times.max():,.0f} times the median of "
        f"layer {layer}."
    )
    title = "Norm of the residual stream by token and layer"
    return draw.alone(draw.figure(title, description, bottom + 30, parts))


def _opacity(shade: float, least: float = 0.02) -> float:
    return least + (1 - least) * (shade + 0.5) / SHADES


def _cells(shades: NDArray[np.int_], out: NDArray[np.bool_]) -> Iterator[Markup]:
    """One path a shade and colour; cells side by side that are alike go together."""
    n_layers = len(shades)
    for stands_out, fill, least in ((False, INK, 0.02), (True, SINK, 0.4)):
        for shade in range(SHADES):
            wanted = (shades == shade) & (out == stands_out)
            drawn = []
            for layer, row in enumerate(wanted):
                for position, length in _runs(row.tolist(), True):
                    drawn.append(f"M{position} {n_layers - 1 - layer}h{length}v1h-{length}Z")
            if drawn:
                yield tag("path", d="".join(drawn), fill=fill, fill_opacity=_opacity(shade, least))


def _runs(values: Iterable[Any], wanted: Any) -> Iterator[tuple[int, int]]:
    """Where neighbours that equal `wanted` begin, and how many they are."""
    for value, members in groupby(enumerate(values), key=lambda pair: pair[1]):
        places = [position for position, _ in members]
        if value == wanted:
            yield places[0], len(places)


def _norm_key(low: float, high: float, ratio: float) -> Iterator[Markup]:
    """The scale of shades, with the powers of ten under it, and what the other colour says."""
    scale = Scale(low, high, 11, 45)
    yield draw.text("norm", 7, 12, faint=True)
    step = (scale.right - scale.left) / SHADES
    for shade in range(SHADES):
        x = scale.left + step * shade + 2
        yield draw.bar(x, x + step, 3, 10, fill_opacity=_opacity(shade))
    for power in range(math.ceil(low), math.floor(high) + 1):
        yield draw.text(f"{10.0**power:,.0f}", scale.at(power) + 2, 25, "middle", faint=True)
    yield draw.bar(50, 51.6, 3, 10, SINK)
    yield draw.text(f"more than {ratio:g} times the median of its layer", 52.6, 12, faint=True)


def _names(
    out: NDArray[np.bool_], tokens: pd.DataFrame, scale: Scale, top: float
) -> Iterator[Markup]:
    """Name the tokens that stand out, where there is room, with a hairline down to each."""
    free = 0.0
    columns = np.flatnonzero(out.any(axis=0))
    for position in columns[:NAMES_A_MAP]:
        x = scale.at(position + 0.5)
        anchor = "middle" if position else "start"
        left = x - 8 * (anchor == "middle")
        if left < free:
            continue
        where = x if position else scale.left
        text = f"{_visible(tokens['text'].iloc[position])} at {position}"
        yield draw.text(text, where, top - 8, anchor, fill=SINK)
        free = left + 16


def _spoken_columns(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    tokens: pd.DataFrame,
    scale: Scale,
    place: tuple[float, float],
) -> Iterator[Markup]:
    """What is said of a token when the mouse is over its column."""
    rows = tokens.head(MOST_TOKENS).to_dict("records")
    for position, row in enumerate(rows):
        column, layer = values[:, position], int(times[:, position].argmax())
        said = tag(
            "title",
            f"token {position}, {row['role']}, {_visible(row['text'])}: norms from "
            f"{column.min():,.0f} to {column.max():,.0f}, at most {times[layer, position]:.1f} "
            f"times the median (layer {layer})",
        )
        box = {"x": draw.pc(scale.at(position)), "width": draw.pc(scale.at(1) - scale.at(0))}
        yield tag("rect", said, y=place[0], height=place[1], fill_opacity=0.0, **box)


def _visible(text: Any) -> str:
    return str(text).replace(" ", "␣").replace("\n", "↵")


def _role_band(tokens: pd.DataFrame, scale: Scale, y: float) -> Iterator[Markup]:
    """Say below the columns whose tokens they are."""
    roles = tokens["role"].tolist()
    for role, colour in ROLES.items():
        for start, length in _runs(roles, role):
            a, b = scale.at(start), scale.at(start + length)
            yield draw.bar(a + 0.1, b - 0.1, y, 4, colour, fill_opacity=0.85)
            if b - a > 0.9 * len(role):
                yield draw.text(role, (a + b) / 2, y + 18, "middle", fill=colour)

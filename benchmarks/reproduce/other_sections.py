"""The parts of the report beside training: steering, safety, and how it was made."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.widgets.markup import readable, signed

from . import figures
from .evidence import log_radii, steered
from .figures import Column, Dot
from .formulas import BOOTSTRAP_SEED
from .safety import sample_efficiency
from .stored import Stored
from .trained_sections import Drawings
from .words import UNKNOWN, between, cell, change, counted, level, listed, plain, table

STEERING_LOOKS = {
    "axis": figures.LOOKS["model-native"],
    "axis dose": figures.LOOKS["model-native"].saying("other doses of these axes"),
    "random": figures.LOOKS["ladder"],
    "text prompt": figures.LOOKS["human taxonomy"],
    "temperature": figures.LOOKS["other"],
}
"""How kinds of answering are marked; all that is not steered by an axis is a control."""


# ---------------------------------------------------------------------------------- steering


def steering_part(stored: Stored, drawn: Drawings) -> Iterator[str]:
    """Ways to answer the reporting half, against the model as it is."""
    yield "## Steering at inference\n"
    steering = stored.steering
    if not steering:
        yield "Not run.\n"
        return
    split = steering["split"]
    yield (
        f"Axes and doses were chosen on {counted(split['chosen_on'], 'problem')} and are reported "
        f"on {split['reported_on']} others, {steering['n']} samples each at temperature "
        f"{steering['temperature']:g}, by the model that all arms start from.\n"
    )
    outcomes = {o: passed for o in ("pass@1", "pass@8") if (passed := steered(steering, o))}
    plainly = next(one["name"] for one in steering["reported"] if one["kind"] == "unsteered")
    kinds = {one["name"]: one["kind"] for one in steering["reported"] if one["name"] != plainly}
    columns, cells = [], {name: list[str]() for name in (plainly, *kinds)}
    for outcome, passed in outcomes.items():
        dots = {}
        for name in cells:
            cells[name].append(level(float(passed[name].mean()), outcome))
            if name == plainly:
                cells[name] += [UNKNOWN, UNKNOWN]
                continue
            value, low, high = mean_interval(passed[name] - passed[plainly], BOOTSTRAP_SEED)
            cells[name] += [change(value, outcome), between(low, high, outcome)]
            dots[name] = Dot(100 * value, [(100 * low, 100 * high)])
        columns.append(Column(outcome, "points", dots, digits=1))
    head = ["answered by", "kind"]
    for outcome in outcomes:
        head += [outcome, "against unsteered (points)", "95 % over problems"]
    kinds_of = {plainly: "unsteered", **kinds}
    rows = [[cell(name), kinds_of[name], *values] for name, values in cells.items()]
    if columns and kinds:
        groups = {k: [name for name in kinds if kinds[name] == k] for k in STEERING_LOOKS}
        drawn["steering"] = figures.forest(
            "Steering against the unsteered model",
            groups,
            columns,
            STEERING_LOOKS,
            ["over problems"],
        )
        yield "![Steering against the unsteered model](figures/steering.svg)\n"
    yield from table(head, rows, words=2)
    yield f"The text prompt: {cell(steering['prompt'])}\n"
    if steering["candidates"]:
        metrics = [m for m in ("pass@1", "pass@8") if m in steering["candidates"][0]]
        yield (
            "Candidates on the choosing half, where the best of them flatters (dose in standard "
            "deviations; utility: first order, thousandths of a nat a token and dose):\n"
        )
        yield from table(
            ["axis and dose", "layer", "dose", "utility", *metrics],
            (
                [
                    cell(one["name"]),
                    cell(one["layer"]),
                    f"{one['dose']:+g}".replace("-", "−"),
                    plain(1000 * one["utility"], 2),
                    *(level(one[m], m) for m in metrics),
                ]
                for one in steering["candidates"]
            ),
        )


# ------------------------------------------------------------------------------------ safety


def safety_part(stored: Stored, drawn: Drawings) -> Iterator[str]:
    """Coverage of held-out families by budget, by each ruler."""
    yield "## Safety: coverage of attack families that were not seen\n"
    safety = stored.safety
    if not safety:
        yield "Not run.\n"
        return
    data = safety["data"]
    yield (
        f"{counted(data['rows'], 'adversarial prompt')} of "
        f"{counted(len(data['families']), 'family', 'families')}, assigned beforehand. Each of "
        f"{listed([cell(name) for name in safety['held_out']])} in turn is held out: rows are "
        "selected from the others, and the radius is the distance of its farthest row from the "
        "nearest selected one. A ruler is the space that distances are taken in. Coverage selects "
        f"in {cell(safety['rulers'][0])}, which favours it, so by that ruler there is no verdict; "
        "by text the space is that of textual diversity, which it favours in turn.\n"
    )
    if files := data.get("files"):
        named = [f"{cell(name)} (SHA-256 {sha[:12]}…)" for name, sha in files.items()]
        yield f"Prompts are made of {listed(named)}.\n"
    budgets = safety["budgets"]
    panels: dict[str, dict[str, list[float]]] = {}
    for ruler in safety["rulers"]:
        radii = log_radii(safety, ruler)
        panels[ruler] = {n: np.exp(r.mean(axis=0)).tolist() for n, r in radii.items()}
    drawn["safety"] = figures.curves(
        "Covering radius of held-out families, less is better",
        budgets,
        {f"ruler: {ruler}": lines for ruler, lines in panels.items()},
        "examples",
        log=True,
    )
    yield "![Covering radius by budget](figures/safety.svg)\n"
    yield (
        "Geometric means of the radius over held-out families, and for random over its seeds; "
        "log det and the share of empty bins are means. log det is of the rows taken, not of the "
        "held-out family:\n"
    )
    head = ["ruler", "strategy", *(f"{budget}" for budget in budgets)]
    ends = [f"log det at {budgets[-1]}", f"empty bins at {budgets[-1]}"]
    rows = []
    for ruler, lines in panels.items():
        for name, values in lines.items():
            last = [
                plain(_mean_at(safety, key, ruler, name, budgets[-1]), 2)
                for key in ("log_det", "empty_bins")
            ]
            rows.append([cell(ruler), cell(name), *(plain(v, 3) for v in values), *last])
    yield from table([*head, *ends], rows, words=2)
    yield "Examples needed to reach the mean radius that textual diversity has with so many:\n"
    needed = sample_efficiency(safety["table"], references=("text_diversity",))
    keys = dict.fromkeys((row["ruler"], row["strategy"]) for row in needed)
    yield from table(
        ["ruler", "strategy", *(f"{budget}" for budget in budgets)],
        (
            [cell(ruler), cell(name), *(_needed(row, budgets) for row in needed if _is(row, key))]
            for key in keys
            for ruler, name in [key]
        ),
        words=2,
    )


def _is(row: Mapping[str, Any], key: tuple[str, str]) -> bool:
    return (row["ruler"], row["strategy"]) == key


def _needed(row: Mapping[str, Any], budgets: list[int]) -> str:
    reached = row["reached_at"]
    if reached is None:
        return f"> {budgets[-1]}"
    return f"≤ {budgets[0]}" if reached <= budgets[0] else plain(reached, 0)


def _mean_at(safety: Mapping[str, Any], key: str, ruler: str, strategy: str, budget: int) -> float:
    """Mean over families of the means over seeds."""
    by_family: dict[str, list[float]] = {}
    for row in safety["table"]:
        if (row["ruler"], row["strategy"], row["budget"]) == (ruler, strategy, budget):
            by_family.setdefault(row["family"], []).append(row[key])
    return float(np.mean([np.mean(values) for values in by_family.values()]))


# ---------------------------------------------------------------------------------- refusals


def refusal_part(stored: Stored) -> Iterator[str]:
    """What training to refuse some families does to the others, and to safe twins."""
    yield "## Safety: refusals after training\n"
    refusals = stored.refusals
    if not refusals:
        yield "Not run.\n"
        return
    yield (
        f"Each strategy chooses {counted(refusals['budget'], 'prompt')} that the model is trained "
        f"to refuse, none of the families {listed([cell(f) for f in refusals['held_out']])}, and "
        "these are asked. Margin: log p(refusal) − log p(target), nats a token. The change's "
        "interval is over prompts; they share requests and wrappers, over which it would be "
        "wider.\n"
    )
    yield from table(
        ["strategy", "family", "seed", "prompts", "before", "after", "change", "95 %"],
        (
            [
                cell(row["strategy"]),
                cell(row["family"]),
                str(row["seed"]),
                str(row["n"]),
                signed(row["margin_before"], 3),
                signed(row["margin_after"], 3),
                signed(row["margin_after"] - row["margin_before"], 3),
                f"{signed(row['low'], 3)} to {signed(row['high'], 3)}",
            ]
            for row in refusals["table"]
        ),
        words=2,
    )
    yield "Over-refusal: harmless requests that look alike and are refused.\n"
    yield from table(
        ["strategy", "seed", "requests", "before", "after"],
        (
            [
                cell(row["strategy"]),
                str(row["seed"]),
                str(row["n"]),
                *(f"{plain(100 * row[key], 1)} %" for key in ("rate_before", "rate_after")),
            ]
            for row in refusals["over_refusal"]
        ),
    )


# ------------------------------------------------------------------------------- how it was made


def made_part(stored: Stored) -> Iterator[str]:
    """Settings, machine, commit, seconds, and the command."""
    settings = stored.settings
    yield "## Settings\n"
    facts = {"scale": settings["scale"], **settings.get("settings", {})}
    if "layer" in settings:
        facts["layer"] = settings["layer"]  # what was asked for may be none: the middle block
    yield from table(["setting", "value"], _facts(facts), words=2)
    for part in ("model", "corpus", "warmup"):
        if isinstance(settings.get(part), dict):
            yield f"### The {'warm-up' if part == 'warmup' else part}\n"
            yield from table([part, "value"], _facts(settings[part]), words=2)
    bases = settings.get("bases") or {}
    if bases:
        yield "### The bases\n"
        yield from table(["basis", "value"], _facts(bases), words=2)
    yield from _machine_part(stored)


def _facts(facts: Mapping[str, Any]) -> list[list[str]]:
    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return ", ".join(f"{key} {one}" for key, one in value.items())
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    shown = readable({name: said(value) for name, value in facts.items()})
    return [[cell(name), cell(value)] for name, value in shown.items()]


def _machine_part(stored: Stored) -> Iterator[str]:
    parts = stored.made_by
    yield "## Made by\n"
    seconds: Counter[str] = Counter()
    for part in parts:
        seconds.update(part.get("seconds", {}))
    facts = {
        "commands": _each(parts, "command"),
        "commits": _each(parts, "commit"),
        "machines": _each(parts, "machine"),
        "versions": _each(parts, "versions"),
        "dates": _each(parts, "date"),
        "seconds": ", ".join(f"{name} {value:,.0f}" for name, value in sorted(seconds.items())),
        "hours in all": plain(sum(seconds.values()) / 3600, 2),
    }
    yield from table(["what", "value"], [[name, cell(value)] for name, value in facts.items()], 2)
    yield (
        "Seconds are those of the process that finished each part: of a part that was stopped and "
        "went on, what came before is not in them.\n"
    )
    yield "## Run it again\n"
    counts = Counter(" ".join(part["command"].split()) for part in parts if "command" in part)
    commands = [name.replace("`", "'") for name, _ in counts.most_common()]
    if not commands:
        commands = [f"python -m benchmarks.reproduce --scale {stored.settings['scale']}"]
    yield "```bash"
    yield from commands
    yield f"{commands[0]} --report   # this report alone"
    yield "```\n"
    yield (
        "Each goes on where it was stopped; with --results FOLDER the second takes the figures of "
        "any folder. Every number above is computed from the JSON files beside this one.\n"
    )


def _each(parts: list[dict[str, Any]], key: str) -> str:
    """The different values that parts have, in order; of several, how many parts have each."""

    def said(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {one}" for name, one in value.items() if one is not None)
        return str(value)

    counts = sorted(Counter(said(part[key]) for part in parts if key in part).items())
    if len(counts) == 1:
        return counts[0][0]
    return "; ".join(f"{value} ({counted(n, 'part')})" for value, n in counts) or UNKNOWN

"""What lies in a folder of results, as the report reads it."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnskills_viz.errors import InputError
from mnskills_viz.files import read_json

from .outcomes import REFERENCE, UNTRAINED, Outcomes, outcomes

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """How the report shows an arm.

    Attributes
    ----------
    group : str
    words : str
        What it takes.
    """

    group: str
    words: str


HUMAN, NATIVE, LADDER, OTHER = "human taxonomy", "model-native", "ladder", "other"

SHOWN: dict[str, About] = {
    REFERENCE: About("", "random rows"),
    "category": About(HUMAN, "as many of each category"),
    "weakest_categories": About(HUMAN, "categories by their errors, weakest first"),
    "weakness_pca": About(NATIVE, "weak poles of PCA axes"),
    "weakness_sae": About(NATIVE, "weak poles of SAE axes"),
    "weakness_active": About(NATIVE, "weak poles of the active subspace"),
    "curriculum_quarters": About(
        NATIVE,
        "weakness_pca in four short trainings one after the other, errors measured anew before "
        "each",
    ),
    "weakness_pca_quarters": About(
        NATIVE,
        "weakness_pca in four short trainings, errors of the start: the control of "
        "curriculum_quarters",
    ),
    "coverage": About(NATIVE, "rows that cover the skill space"),
    "proxy_axis": About(NATIVE, "top of one axis, chosen by first-order proxy"),
    "pilot_axis": About(NATIVE, "top of one axis, chosen by pilot trainings"),
    "autoskill": About(
        NATIVE,
        "the authors' own recipe, but for: attention sinks left out, correctness by sampled "
        "answers where they vary, else by the reference's log-probability",
    ),
    "weakness_rotated": About(LADDER, "as weakness_pca, axes rotated within their span"),
    "weakness_subspace": About(LADDER, "as weakness_pca, in a random subspace"),
    "text_diversity": About(OTHER, "texts far from one another"),
    "influence": About(OTHER, "gradients that agree with the probe's, no axes"),
    "weakness_pca_rows": About(OTHER, "weakness_pca, equal rows in place of equal tokens"),
    UNTRAINED: About(OTHER, "no further training: the common start"),
}
"""All arms, as the report has them one after the other."""

ABOUT = {arm: about.words for arm, about in SHOWN.items()}
GROUPS = {
    group: tuple(arm for arm, about in SHOWN.items() if about.group == group)
    for group in (HUMAN, NATIVE, LADDER, OTHER)
}

INSTEAD = "rows were drawn at random"
"""What a recipe notes when its strategy had nothing to go by."""


@dataclass(slots=True)
class Stored:
    """All results that there are; None for what was not run.

    Attributes
    ----------
    settings : dict
        ``settings.json``, with ``start.json`` where that is apart.
    problems : dict or None
    cells : list of dict
        Those that arms are compared by, in the report's order.
    found : Outcomes or None
    incomplete : dict of str to int
        Arms with some cells only, and how many; they are left out.
    waiting : list of int
        Seeds of `random` that are left out until all arms that are begun have them.
    plan, steering, safety, defaults, refusals : dict or None
    made_by : list of dict
        What made each part that there is, used or not, cells first.
    """

    settings: Json
    problems: Json | None = None
    cells: list[Json] = field(default_factory=list)
    found: Outcomes | None = None
    incomplete: dict[str, int] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    plan: Json | None = None
    steering: Json | None = None
    safety: Json | None = None
    defaults: Json | None = None
    refusals: Json | None = None
    made_by: list[Json] = field(default_factory=list)

    def of_arm(self, arm: str) -> list[Json]:
        """Its cells, by seed."""
        return [cell for cell in self.cells if cell["arm"] == arm]

    def drawn_instead(self, arm: str) -> int:
        """How many of its cells trained on rows that were drawn at random for want of better."""
        notes = [
            [note for recipe in cell.get("recipes", ()) for note in recipe.get("notes") or ()]
            for cell in self.of_arm(arm)
        ]
        return sum(any(INSTEAD in note for note in each) for each in notes)


def read_outcomes(folder: Path) -> Stored:
    """Read a folder of results.

    An arm is complete if it has a cell for every seed that `random` has. In a run that is under
    way, all arms that are begun are compared by the seeds that they have in common, if those are
    two or more; otherwise those that are not complete are left out.

    Raises
    ------
    InputError
        There is no ``settings.json``, or a file is damaged.
    """
    if not (folder / "settings.json").is_file():
        raise InputError(f"{folder} has no settings.json; expected a folder of results: run it")
    start = _part(folder, "start") or {}
    stored = Stored(
        read_json(folder / "settings.json") | start,
        problems=_part(folder, "problems"),
        plan=_part(folder, "plan"),
        steering=_part(folder, "steering"),
        safety=_part(folder, "safety"),
        defaults=_part(folder, "defaults"),
        refusals=_part(folder, "refusals"),
    )
    cells = [read_json(file) for file in sorted((folder / "cells").glob("*.json"))]
    by_arm: dict[str, dict[int, Json]] = defaultdict(dict)
    for cell in cells:
        by_arm[cell["arm"]][cell["seed"]] = cell
    seeds = sorted(by_arm.get(REFERENCE, {}))
    common = [seed for seed in seeds if all(seed in there for there in by_arm.values())]
    if len(common) >= 2:
        stored.waiting = [seed for seed in seeds if seed not in common]
        seeds = common
    for arm in in_order(by_arm):
        if seeds and set(seeds) <= set(by_arm[arm]):
            stored.cells += [by_arm[arm][seed] for seed in seeds]
        else:
            stored.incomplete[arm] = len(by_arm[arm])
    if stored.cells and stored.problems:
        stored.found = outcomes(stored.cells, stored.problems)
    others = (stored.steering, stored.safety, stored.defaults, stored.refusals)
    parts = [*cells, stored.settings, *others]
    stored.made_by = [part["made_by"] for part in parts if part and "made_by" in part]
    return stored


def _part(folder: Path, name: str) -> Json | None:
    file = folder / f"{name}.json"
    part: Json | None = read_json(file) if file.is_file() else None
    return part


def in_order(arms: Any) -> list[str]:
    """Arms as the report has them: those of `SHOWN` in its order, then others by name."""
    return [arm for arm in SHOWN if arm in arms] + sorted(set(arms) - set(SHOWN))


def group_of(arm: str) -> str:
    """The group that an arm is shown in."""
    return SHOWN[arm].group if arm in SHOWN else OTHER

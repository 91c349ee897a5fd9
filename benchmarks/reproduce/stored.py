"""What lies in a folder of results, as the report reads it."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnskills_viz.errors import InputError
from mnskills_viz.files import read_json

from .statistics import REFERENCE, UNTRAINED, Outcomes, outcomes

Json = dict[str, Any]

GROUPS = {
    "human taxonomy": ("category", "weakest_categories"),
    "model-native": (
        "weakness_pca",
        "weakness_sae",
        "weakness_active",
        "curriculum_quarters",
        "coverage",
        "proxy_axis",
        "pilot_axis",
        "autoskill",
    ),
    "ladder": ("weakness_rotated", "weakness_subspace"),
    "other": ("text_diversity", "influence", "random_rows", "weakness_pca_rows", UNTRAINED),
}
"""Arms as the report has them one after the other."""

ABOUT = {
    "none": "no further training: the common start",
    "random": "random rows",
    "category": "as many of each category",
    "weakest_categories": "categories by their errors, weakest first",
    "text_diversity": "texts far from one another",
    "weakness_pca": "weak poles of PCA axes",
    "weakness_sae": "weak poles of SAE axes",
    "influence": "gradients that agree with the probe's, no axes",
    "weakness_rotated": "as weakness_pca, axes rotated within their span",
    "weakness_subspace": "as weakness_pca, in a random subspace",
    "autoskill": "the authors' own recipe",
    "pilot_axis": "top of one axis, chosen by pilot trainings",
    "proxy_axis": "top of one axis, chosen by first-order proxy",
    "weakness_active": "weak poles of the active subspace",
    "curriculum_quarters": "weakness_pca, measured anew each quarter of the budget",
    "coverage": "rows that cover the skill space",
    "random_rows": "random, equal rows in place of equal tokens",
    "weakness_pca_rows": "weakness_pca, equal rows in place of equal tokens",
}


@dataclass(slots=True)
class Stored:
    """All results that there are; None for what was not run.

    Attributes
    ----------
    settings : dict
        ``settings.json``, with ``start.json`` where that is apart.
    problems : dict or None
    cells : list of dict
        Of complete arms, in the report's order.
    found : Outcomes or None
    incomplete : dict of str to int
        Arms with some cells only, and how many; they are left out.
    plan, steering, safety, defaults : dict or None
    """

    settings: Json
    problems: Json | None = None
    cells: list[Json] = field(default_factory=list)
    found: Outcomes | None = None
    incomplete: dict[str, int] = field(default_factory=dict)
    plan: Json | None = None
    steering: Json | None = None
    safety: Json | None = None
    defaults: Json | None = None

    def of_arm(self, arm: str) -> list[Json]:
        """Its cells, by seed."""
        return [cell for cell in self.cells if cell["arm"] == arm]

    def made_by(self) -> list[Json]:
        """What made each part, cells first."""
        parts = [*self.cells, self.settings, self.steering, self.safety, self.defaults]
        return [part["made_by"] for part in parts if part and "made_by" in part]


def read_outcomes(folder: Path) -> Stored:
    """Read a folder of results.

    An arm is complete if it has a cell for every seed that `random` has.

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
    )
    cells = [read_json(file) for file in (folder / "cells").glob("*.json")]
    by_arm: dict[str, dict[int, Json]] = defaultdict(dict)
    for cell in cells:
        by_arm[cell["arm"]][cell["seed"]] = cell
    seeds = sorted(by_arm.get(REFERENCE, {}))
    for arm in in_order(by_arm):
        if seeds and set(seeds) <= set(by_arm[arm]):
            stored.cells += [by_arm[arm][seed] for seed in seeds]
        else:
            stored.incomplete[arm] = len(by_arm[arm])
    if stored.cells and stored.problems:
        stored.found = outcomes(stored.cells, stored.problems)
    return stored


def _part(folder: Path, name: str) -> Json | None:
    file = folder / f"{name}.json"
    part: Json | None = read_json(file) if file.is_file() else None
    return part


def in_order(arms: Any) -> list[str]:
    """Arms as the report has them: random, the groups one after the other, others by name."""
    known = [REFERENCE, *(arm for group in GROUPS.values() for arm in group)]
    return [arm for arm in known if arm in arms] + sorted(set(arms) - set(known))


def group_of(arm: str) -> str:
    """The group that an arm is shown in."""
    return next((group for group, arms in GROUPS.items() if arm in arms), "other")

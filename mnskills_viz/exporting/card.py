"""The data card: what the rows are, how they were chosen, how to train and how to replay.

Labels, categories and sources are other people's text: whatever they hold, the table keeps its
cells and the YAML its keys.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..corpus import Corpus, Example
from ..selection import Selection, pole_name

UNKNOWN = "unknown"
LONGEST_CELL = 100

# An underscore inside a word means nothing to Markdown, and names are full of them.
_MARKS = re.compile(r"[&<>\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def write_card(
    corpus: Corpus,
    selection: Selection,
    labels: Mapping[tuple[int, int], str],
    how_to_train: str,
) -> str:
    """README.md with YAML front matter that ``datasets.load_dataset`` and the hub read.

    Parameters
    ----------
    corpus : Corpus
        The pool.
    selection : Selection
        What was chosen from it.
    labels : mapping of (axis, +1 or -1) to str
        Names that people gave to poles.
    how_to_train : str
        Markdown: how the trainer of this format is run.
    """
    pool = list(corpus)
    chosen = [pool[int(index)] for index in selection.indices]
    parts = [
        _front_matter(chosen),
        f"# {len(chosen):,} SFT examples",
        f"Chosen from the {len(corpus):,} examples of the corpus "
        f"{markdown(corpus_name(corpus))}, along axes of a model's own activations, and in the "
        "order in which they are meant to be trained on.",
        "## How they were chosen",
        _how(selection),
        "## Axes",
        _axes(selection, labels),
        "## Composition",
        _composition("category", lambda e: e.category, chosen, pool),
        _composition("source", lambda e: e.source, chosen, pool),
        _composition("licence", licence_of, chosen, pool),
        "## Train",
        how_to_train,
        "## Replay",
        _replay(selection),
    ]
    return "\n\n".join(parts) + "\n"


def corpus_name(corpus: Corpus) -> str:
    """The corpus's name without the folders of the machine that it lay on."""
    return Path(corpus.name).name if Path(corpus.name).is_absolute() else corpus.name


def licence_of(example: Example) -> str | None:
    """The licence that the data names for a row."""
    licence = example.meta.get("license")
    return None if licence in (None, "") else str(licence)


def markdown(text: str) -> str:
    """Foreign text as one line of plain Markdown, safe inside a table cell."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) > LONGEST_CELL:
        line = line[: LONGEST_CELL - 1] + "…"
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", line)


def yaml_text(text: str) -> str:
    """Foreign text as a double-quoted YAML scalar."""

    def quoted(character: str) -> str:
        if character in '"\\':
            return "\\" + character
        return character if character.isprintable() else f"\\U{ord(character):08X}"

    return '"' + "".join(map(quoted, text)) + '"'


# ------------------------------------------------------------------------------------ sections


def _front_matter(chosen: Sequence[Example]) -> str:
    licences = sorted({licence_of(example) or UNKNOWN for example in chosen})
    lines = [
        "---",
        "license:",
        *(f"- {yaml_text(licence)}" for licence in licences),
        "task_categories:",
        "- text-generation",
        "tags:",
        "- sft",
        "- mnskills_viz",
        # No ``configs``: with them `datasets` caches by this text alone, and gives the rows of an
        # earlier export of the same name. It finds files called train by itself.
        "---",
    ]
    return "\n".join(lines)


def _how(selection: Selection) -> str:
    recipe = selection.recipe
    picked = ", ".join(f"{count:,} {unit}" for unit, count in recipe["picked"].items())
    facts = [
        f"Strategy: {recipe['strategy']}. {recipe['how']}",
        f"Budget: {recipe['budget']:,} {recipe['unit']}; used: {picked}. Seed: {recipe['seed']}.",
    ]
    if model := recipe.get("model"):
        facts.append(
            f"Model: {markdown(str(model['name']))}, revision {markdown(str(model['revision']))}, "
            f"weights {model['weights']}; basis {markdown(str(recipe['basis']))} at layer "
            f"{recipe['layer']}, fingerprint {recipe['basis_fingerprint']}."
        )
    if recipe["include"] or recipe["exclude"]:
        facts.append(
            f"By id: {len(recipe['include']):,} included, {len(recipe['exclude']):,} excluded."
        )
    if recipe["caps"]:
        caps = (f"{markdown(name)}: {cap:,}" for name, cap in sorted(recipe["caps"].items()))
        facts.append(f"At most so many rows of a category: {'; '.join(caps)}.")
    facts += [f"Note: {note}." for note in recipe["notes"]]
    return "\n".join(f"- {fact}" for fact in facts)


def _axes(selection: Selection, labels: Mapping[tuple[int, int], str]) -> str:
    """Poles in the order in which the curriculum reaches them."""
    receipts = selection.receipts
    rows = []
    for axis, pole in dict.fromkeys(zip(receipts["axis"], receipts["pole"], strict=True)):
        if pole == 0:  # chosen by gradients, and no axes were given to explain it
            continue
        picks = receipts[(receipts["axis"] == axis) & (receipts["pole"] == pole)]
        weakness = float(picks["weakness"].iloc[0])
        rows.append(
            [
                pole_name(axis, pole),
                markdown(labels.get((axis, pole), "")),
                f"{len(picks):,}",
                f"{picks['z'].mean():+.2f}",
                "" if math.isnan(weakness) else f"{weakness:.3f}",
            ]
        )
    if not rows:
        return "The rows were not chosen by axes."
    head = ["pole", "label", "examples", "mean z", "weakness"]
    explanation = (
        "The pole for which a row was taken, or on which it projects highest. z: coordinate in "
        "standard deviations of the pool. Weakness: mean error of probe examples on the pole, "
        "shrunk towards the mean of all."
    )
    return f"{explanation}\n\n{_table(head, rows)}"


def _composition(
    name: str,
    value: Callable[[Example], str | None],
    chosen: Sequence[Example],
    pool: Sequence[Example],
) -> str:
    """Counts of the selection beside the pool's, the selection's largest first."""
    ours, all_ = (Counter(value(e) or UNKNOWN for e in part) for part in (chosen, pool))
    rows = [
        [markdown(key), _share(ours[key], len(chosen)), _share(all_[key], len(pool))]
        for key in sorted(all_, key=lambda key: (-ours[key], -all_[key], key))
    ]
    return _table([name, "selection", "pool"], rows)


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _replay(selection: Selection) -> str:
    given = [name for name, sha in selection.recipe["inputs"].items() if sha and name != "Z"]
    arguments = ", ".join(["recipe", "Z", *(f"{name}={name}" for name in given)])
    return f"""\
`receipts.parquet` says of each row, in the order of the data, which example it is and why it was
chosen, `recipe.json` how, and `manifest.json` holds the SHA-256 of every file here and of what they
were made from. With the same inputs the same rows come out; other inputs are refused by name.

```python
import json
from pathlib import Path

from mnskills_viz.selection import replay

recipe = json.loads(Path("recipe.json").read_text(encoding="utf-8"))
selection = replay({arguments})
```"""

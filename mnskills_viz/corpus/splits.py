"""Part a corpus: a pool and a probe set, a half to choose on and one to report on."""

import hashlib
from dataclasses import replace

from ..errors import InputError
from .example import Corpus

PROBE_SHARE, PROBE_MOST = 0.2, 500


def with_splits(corpus: Corpus, probe: Corpus | None = None) -> tuple[Corpus, str]:
    """Mark every example as pool or probe.

    Parameters
    ----------
    corpus : Corpus
        Rows whose ``meta["split"]`` is ``"test"`` are left out.
    probe : Corpus, optional
        The probe set. Default: the rows of split ``"probe"``; if there are none, a fifth of the
        corpus (500 at most), chosen by a hash of the ids.

    Returns
    -------
    Corpus
        ``meta["split"]`` is ``"pool"`` or ``"probe"``; no id is in both.
    str
        The rule that was followed.

    Raises
    ------
    InputError
        One side would be empty.
    """
    if probe is not None:
        ids = set(probe.ids)
        pool = [e for e in corpus if e.id not in ids and e.meta.get("split") != "test"]
        rows, rule = pool + list(probe), f"given: {probe.name}"
    else:
        rows = [e for e in corpus if e.meta.get("split") != "test"]
        ids = {e.id for e in rows if e.meta.get("split") == "probe"}
        rule = "rows of split 'probe'"
        if not ids:
            most = min(int(PROBE_SHARE * len(rows)), PROBE_MOST)
            ids = set(sorted((e.id for e in rows), key=hash_of_id)[:most])
            rule = f"held out by a hash of the ids: {most} rows"
    if not ids or len(ids) == len(rows):
        raise InputError(
            f"{corpus.name}: {len(rows)} rows cannot be parted into a pool and a probe set"
        )
    marked = (replace(e, meta=e.meta | {"split": "probe" if e.id in ids else "pool"}) for e in rows)
    return Corpus(marked, corpus.name), rule


def halves(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """One half to choose on and one to report on, by a hash of the ids, each in corpus order.

    Raises
    ------
    InputError
        Fewer than four examples.
    """
    if len(corpus) < 4:
        raise InputError(
            f"{len(corpus)} examples cannot be parted into two halves of two or more; give more"
        )
    order = sorted(range(len(corpus)), key=lambda i: hash_of_id(corpus[i].id))
    middle = len(order) // 2
    return corpus.take(sorted(order[:middle])), corpus.take(sorted(order[middle:]))


def hash_of_id(name: str) -> str:
    """Order ids as by chance, and always alike."""
    return hashlib.sha256(f"probe:{name}".encode()).hexdigest()

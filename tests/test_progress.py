"""Long work ends where somebody who listens wants no more of it, and leaves nothing half done."""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.axes.neighbours import similar_axes
from mnskills_viz.progress import Stopped, listening, tell
from mnskills_viz.selection import greedy


class Heard:
    """Keeps what it hears; stops the work when `enough` says so."""

    def __init__(self, enough: Callable[[int, int], bool] = lambda done, total: False) -> None:
        self.calls: list[tuple[int, int]] = []
        self.threads: set[int] = set()
        self.n_after = 0
        self._enough, self._is_over = enough, False

    def __call__(self, done: int, total: int) -> None:
        self.threads.add(threading.get_ident())
        self.n_after += self._is_over
        self.calls.append((done, total))
        self._is_over |= self._enough(done, total)
        if self._is_over:
            raise Stopped


def stops(heard: Heard, work: Callable[[], object]) -> None:
    with pytest.raises(Stopped), listening(heard):
        work()


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((25_000, 12)).astype(np.float32)


def test_nobody_need_listen():
    tell(1, 2)
    heard = Heard()
    with listening(heard):
        tell(1, 2)
    tell(2, 2)
    assert heard.calls == [(1, 2)]


def test_other_threads_are_not_heard():
    heard = Heard()
    with listening(heard):
        other = threading.Thread(target=tell)
        other.start()
        other.join()
    assert heard.calls == []


def test_facility_location_ends_after_the_pick_at_which_it_is_stopped(many):
    heard = Heard(lambda done, total: done == 3)
    stops(heard, lambda: mn.select(many, "facility_location", 500))
    assert heard.calls[-1] == (3, 500)


def test_facility_location_ends_in_its_first_look_at_all_rows(many):
    heard = Heard(lambda done, total: len(heard.calls) == 100)
    stops(heard, lambda: mn.select(many, "facility_location", 500))
    assert heard.calls == [(0, 0)] * 100  # no pick was told of


def test_blocks_on_several_threads_all_end(many, monkeypatch):
    @contextmanager
    def two_threads():
        yield 2

    monkeypatch.setattr(greedy, "few_threads", two_threads)
    done: list[int] = []
    heard = Heard(lambda done, total: len(heard.calls) == 8)
    stops(heard, lambda: greedy.in_blocks(lambda block: done.append(block.start), 512 * 4000))
    assert len(done) < 8
    assert heard.n_after <= 16  # each share of the work asks once before its first block
    assert threading.get_ident() not in heard.threads


def test_the_choice_is_the_same_whether_somebody_listens_or_not(many):
    with listening(Heard()):
        heard = mn.select(many, "facility_location", 20)
    assert heard.indices.tolist() == mn.select(many, "facility_location", 20).indices.tolist()


class Counted(list):
    """Counts the examples that are read one by one."""

    n_read = 0

    def __getitem__(self, place):
        self.n_read += 1
        return super().__getitem__(place)


def test_contamination_reads_no_further_than_where_it_is_stopped():
    texts = [
        mn.Example(str(i), f"task {i} of many, with words enough to tell", "x")
        for i in range(20_000)
    ]
    pool = Counted(texts)
    heard = Heard(lambda done, total: done > 0)
    stops(heard, lambda: mn.contamination(pool, {"test": texts[:5]}))
    assert heard.calls[-1] == (4096, 20_000)
    assert pool.n_read == 4096


def test_a_preflight_ends_among_rows_and_among_tokens(tmp_path, tiny_model):
    row = {
        "prompt": [{"role": "user", "content": "What is 2 + 2?"}],
        "completion": [{"role": "assistant", "content": "4"}],
    }
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(row)}\n" * 3000)
    heard = Heard(lambda done, total: len(heard.calls) == 700)
    stops(heard, lambda: mn.preflight(tmp_path))
    assert len(heard.calls) == 700
    heard = Heard(lambda done, total: done == 600)
    stops(heard, lambda: mn.preflight(tmp_path, tiny_model))
    assert heard.calls[-1] == (600, 3000)


def test_the_search_for_neighbours_can_be_stopped(tiny_study):
    basis = tiny_study.basis("pca-1")
    z = np.random.default_rng(0).standard_normal((100_000, basis.n_axes_))
    heard = Heard(lambda done, total: done > 0)
    stops(heard, lambda: similar_axes(basis, basis, z, z, axis=0))
    assert heard.calls == [(0, 100_000), (2**14, 100_000)]


def test_an_export_that_is_stopped_leaves_no_folder(copied_study):
    there = copied_study.export_names
    heard = Heard(lambda done, total: len(heard.calls) == 4)
    stops(heard, lambda: copied_study.export("random", "openai"))
    assert copied_study.export_names == there
    assert {path.name for path in (copied_study.path / "exports").iterdir()} == {*there}


def test_quality_can_be_stopped_and_nothing_is_kept_of_it(copied_study):
    for file in copied_study.path.glob("results/quality-*"):
        file.unlink()
    heard = Heard(lambda done, total: (done, total) == (2, 19))
    stops(heard, lambda: copied_study.quality("pca-1"))
    assert copied_study.kept_quality("pca-1") is None

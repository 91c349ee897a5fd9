"""Ray on two local workers, each a process with a model of its own, against this process."""

import importlib.util
import os
import signal
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

import mnskills_viz as mn

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray not installed")

OPTIONS = {"errors": True, "token_budget": 128, "progress": False}


@pytest.fixture(scope="module")
def pool():
    return mn.load_corpus("demo", limit=300)


@pytest.fixture(scope="module")
def plain(tiny_model, pool):
    return mn.collect(tiny_model, pool, **OPTIONS)


@pytest.fixture(scope="module")
def cluster():
    """One for all tests of this file: it takes seconds to start."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def workers():
    """Process ids of the actors."""
    found = subprocess.run(
        ["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True, check=False
    )
    return {int(pid) for pid in found.stdout.split()}


class Killing(mn.RayEngine):
    """Kills one worker when the first rows have come."""

    seen: ClassVar[list[set[int]]] = []

    def read(self, *arguments):
        for index, table in enumerate(super().read(*arguments)):
            if index == 0:
                self.seen.append(workers())
                os.kill(min(self.seen[0]), signal.SIGKILL)
            self.seen.append(workers())
            yield table


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "host:port", "auto"])
def test_no_cluster_at_the_address_is_one_line(tiny_model, demo_rows, address):
    engine = mn.RayEngine(2, address)
    with pytest.raises(mn.InputError, match=f"no Ray cluster at '{address}'") as caught:
        mn.collect(tiny_model, demo_rows, engine=engine, progress=False)
    assert "\n" not in str(caught.value)


WHOLE = mn.RayEngine(2)


@needs_ray
@pytest.mark.parametrize("engine", [WHOLE, Killing(2)], ids=["whole", "one is killed"])
def test_two_workers_give_the_rows_of_one_process(
    tiny_model, pool, plain, cluster, tmp_path, engine
):
    store = None if engine is WHOLE else tmp_path / "a.lance"
    found = mn.collect(tiny_model, pool, store=store, engine=engine, **OPTIONS)
    assert found.ids == plain.ids
    np.testing.assert_allclose(found.logprobs, plain.logprobs, atol=1e-5)
    for layer in plain.layers:  # surface: 1e-5 in float32, one float16 step in a store
        mine, theirs = found.matrix(layer), plain.matrix(layer)
        step = 0 if store is None else np.spacing(np.abs(theirs).astype(np.float16))
        assert (np.abs(mine - theirs) <= 1e-5 + step).all()
    if engine is not WHOLE:
        assert set.union(*engine.seen[1:]) - engine.seen[0], "no worker took the dead one's place"


@needs_ray
def test_what_a_worker_refuses_is_said_in_its_words(tiny_folder, cluster, tmp_path, demo_rows):
    model = mn.load_model(str(tiny_folder), dtype="float32")
    model._module.model.layers[1].mlp.down_proj.weight.data *= 2  # not what lies in the folder
    with pytest.raises(mn.InputError, match=r"a worker has another model \(weights: ") as caught:
        mn.collect(model, demo_rows, engine=mn.RayEngine(1), progress=False)
    assert "\n" not in str(caught.value)


def test_without_ray_it_says_how_to_get_it(tiny_model, demo_rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(mn.InputError, match=r"pip install 'mnskills_viz\[ray\]'"):
        mn.collect(tiny_model, demo_rows, engine=mn.RayEngine(2), progress=False)


def test_workers_are_counted_from_one():
    with pytest.raises(mn.InputError, match="workers must be at least 1"):
        mn.RayEngine(0)

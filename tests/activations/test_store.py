"""What is on disk: layers added later, streams, moments, and what is refused."""

import os
import subprocess
import sys

import lance
import numpy as np
import pytest
import torch
from nnsight.modeling.transformers import TransformersModel
from sklearn.decomposition import PCA
from transformers import AutoTokenizer

import mnskills_viz as mn
from mnskills_viz.activations import statistics, store
from mnskills_viz.activations.collector import Here


class Watched:
    """Reads in this process, and notes which columns were computed for how many rows."""

    def __init__(self):
        self.computed = []

    def read(self, model, job, corpus, batches):
        self.computed.append((job.columns.layers, job.columns.logprob, sum(map(len, batches))))
        return Here().read(model, job, corpus, batches)


@pytest.fixture(scope="module")
def plain(tiny_model, demo_rows):
    """Every layer and the errors, in memory."""
    return mn.collect(tiny_model, demo_rows, errors=True, progress=False)


def same_rows(found, expected, layers):
    assert found.ids == expected.ids
    for layer in layers:
        np.testing.assert_allclose(
            found.matrix(layer), expected.matrix(layer), rtol=1e-3, atol=1e-3
        )


def test_layers_and_errors_asked_for_later_are_computed_alone(
    tiny_model, demo_rows, tmp_path, plain
):
    path, n = tmp_path / "a.lance", len(demo_rows)
    engine = Watched()
    options = {"store": path, "engine": engine, "progress": False}
    first = mn.collect(tiny_model, demo_rows, layers=[1], **options)
    assert (first.layers, np.isnan(first.logprobs).all()) == ([1], True)
    both = mn.collect(tiny_model, demo_rows, layers=[3, 1], **options)
    everything = mn.collect(tiny_model, demo_rows, errors=True, **options)
    mn.collect(tiny_model, demo_rows, layers=[2], **options)
    assert engine.computed == [
        ((1,), False, n),
        ((3,), False, n),
        ((0, 2), True, n),
    ]
    assert both.layers == [1, 3]
    same_rows(everything, plain, [0, 1, 2, 3])
    np.testing.assert_allclose(everything.logprobs, plain.logprobs, atol=1e-5)
    np.testing.assert_array_equal(everything.matrix(1), first.matrix(1))
    assert [p.name for p in tmp_path.iterdir() if "added" in p.name] == []


def test_errors_alone_can_be_added(tiny_model, demo_rows, tmp_path, plain):
    path, engine = tmp_path / "a.lance", Watched()
    mn.collect(tiny_model, demo_rows, store=path, progress=False)
    acts = mn.collect(tiny_model, demo_rows, store=path, errors=True, engine=engine, progress=False)
    assert engine.computed == [((), True, len(demo_rows))]
    np.testing.assert_allclose(acts.logprobs, plain.logprobs, atol=1e-5)


@pytest.mark.parametrize("where", ["memory", "store"])
def test_a_stream_gives_every_row_once(tiny_model, demo_rows, tmp_path, where):
    path = tmp_path / "a.lance" if where == "store" else None
    acts = mn.collect(tiny_model, demo_rows, layers=[2], store=path, progress=False)
    seen = []
    for indices, rows in acts.stream(2, n_rows=7):
        assert len(indices) <= 7
        np.testing.assert_array_equal(acts.matrix(2)[indices], rows)
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(demo_rows)))


def test_a_finished_store_is_of_few_pieces_and_one_version(
    tiny_model, demo_rows, tmp_path, monkeypatch
):
    monkeypatch.setattr("mnskills_viz.activations.collect.BYTES_A_COMMIT", 1)
    path = tmp_path / "a.lance"
    mn.collect(tiny_model, demo_rows, store=path, token_budget=64, progress=False)
    dataset = lance.dataset(str(path))
    assert (len(dataset.get_fragments()), len(dataset.versions())) == (1, 1)
    assert len(list((path / "data").iterdir())) == 1


def test_compaction_in_steps_keeps_every_row(tiny_model, demo_rows, tmp_path, monkeypatch, plain):
    monkeypatch.setattr("mnskills_viz.activations.collect.BYTES_A_COMMIT", 1)
    monkeypatch.setattr(store, "BYTES_A_FRAGMENT", 1)
    monkeypatch.setattr(store, "FEWEST_ROWS_A_FRAGMENT", 20)
    acts = mn.collect(
        tiny_model, demo_rows, store=tmp_path / "a.lance", token_budget=64, progress=False
    )
    assert 1 < len(lance.dataset(str(tmp_path / "a.lance")).get_fragments()) <= 4
    same_rows(acts, plain, plain.layers)


def test_other_versions_of_packages_are_told(tiny_model, demo_rows, tmp_path, monkeypatch):
    mn.collect(tiny_model, demo_rows[:3], store=tmp_path / "a.lance", progress=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    with pytest.warns(UserWarning, match=r"begun with other versions \(mnskills_viz"):
        mn.collect(tiny_model, demo_rows[:3], store=tmp_path / "a.lance", progress=False)


# ------------------------------------------------------------------------------------- moments


def test_moments_are_those_of_the_rows(tiny_model, demo_rows, plain):
    found = mn.collect_moments(tiny_model, demo_rows, layers=[1, 3], progress=False)
    assert list(found) == [1, 3]
    for layer, moments in found.items():
        X = plain.matrix(layer).astype(np.float64)
        assert moments.count == len(X)
        np.testing.assert_allclose(moments.mean, X.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(X.T), atol=1e-10)
        np.testing.assert_allclose(plain.moments(layer).second, moments.second, rtol=1e-10)


def test_pca_from_moments_is_scikit_learns(tiny_model, demo_rows, plain):
    moments = mn.collect_moments(tiny_model, demo_rows, layers=[2], progress=False)[2]
    variances = np.linalg.eigvalsh(moments.covariance)[::-1][:8]
    expected = PCA(8, svd_solver="full").fit(plain.matrix(2).astype(np.float64))
    np.testing.assert_allclose(variances, expected.explained_variance_, rtol=1e-9)


def test_moments_of_parts_add_up(tiny_model, demo_rows):
    whole, left, right = (
        mn.collect_moments(tiny_model, part, layers=[1], progress=False)[1]
        for part in (demo_rows, demo_rows[:25], demo_rows[25:])
    )
    both = left + right
    assert both.count == whole.count
    np.testing.assert_allclose(both.second, whole.second, rtol=1e-6, atol=1e-6)
    with pytest.raises(mn.InputError, match="width 32 and of width 3"):
        left + mn.Moments.none(3)


def test_moments_are_kept_and_taken_up(tiny_model, demo_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "SECONDS_A_CHECKPOINT", 0.0)
    path = tmp_path / "moments.safetensors"
    options = {"layers": [1], "token_budget": 256, "progress": False}

    class Stopping(Watched):
        def read(self, *arguments):
            for index, table in enumerate(super().read(*arguments)):
                if index == 5:
                    raise KeyboardInterrupt
                yield table

    with pytest.raises(KeyboardInterrupt):
        mn.collect_moments(tiny_model, demo_rows, store=path, engine=Stopping(), **options)
    engine = Watched()
    found = mn.collect_moments(tiny_model, demo_rows, store=path, engine=engine, **options)[1]
    assert 0 < engine.computed[0][2] < len(demo_rows)
    straight = mn.collect_moments(tiny_model, demo_rows, **options)[1]
    assert found.count == straight.count
    np.testing.assert_array_equal(found.second, straight.second)
    again = mn.collect_moments(tiny_model, demo_rows, store=path, engine=engine, **options)[1]
    assert len(engine.computed) == 1  # the file has it all
    np.testing.assert_array_equal(again.second, found.second)
    with pytest.raises(mn.InputError, match=r"options.tokens: content there, prompt here"):
        mn.collect_moments(tiny_model, demo_rows, store=path, tokens="prompt", **options)
    path.write_bytes(b"junk")
    with pytest.raises(mn.InputError, match="not a readable file of moments"):
        mn.collect_moments(tiny_model, demo_rows, store=path, **options)


# --------------------------------------------------------------------------------------- memory

CROWDED = """
import resource, sys
import numpy as np, torch
import mnskills_viz as mn
torch.set_num_threads(1)
model = mn.load_model(sys.argv[1], dtype="float32")
corpus = mn.load_corpus("demo", limit=300)
plain = mn.collect(model, corpus, token_budget=1024, progress=False)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 30_000_000, resource.RLIM_INFINITY))
crowded = mn.collect(model, corpus, token_budget=100_000, progress=False)
assert crowded.ids == plain.ids
print(max(np.abs(crowded.matrix(l) - plain.matrix(l)).max() for l in plain.layers))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_batches_that_memory_does_not_hold_are_halved(tiny_folder):
    run = subprocess.run(
        [sys.executable, "-c", CROWDED, str(tiny_folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "does not fit into memory; going on with at most" in run.stderr
    assert float(run.stdout.split()[-1]) < 1e-5


def test_an_example_that_memory_does_not_hold_is_named(tiny_folder, demo_rows):
    model = mn.load_model(str(tiny_folder), dtype="float32")

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model._module.model.layers[1].register_forward_pre_hook(full)
    with (
        pytest.warns(UserWarning, match="does not fit into memory"),
        pytest.raises(mn.InputError, match=r"example .*: its \d+ tokens do not fit into memory"),
    ):
        mn.collect(model, demo_rows, progress=False)


def test_no_key_value_cache_is_made(tiny_folder, demo_rows):
    model = mn.load_model(str(tiny_folder), dtype="float32")
    caches = []
    model._module.model.layers[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: caches.append(kwargs.get("past_key_values")),
        with_kwargs=True,
    )
    mn.collect(model, demo_rows[:3], progress=False)
    assert caches == [None]


def test_remote_is_passed_on_to_nnsight_for_a_model_without_weights_here(
    tiny_folder, demo_rows, monkeypatch
):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    model = TransformersModel(str(tiny_folder), tokenizer=tokenizer, task="text-generation")
    assert model._module.device.type == "meta"
    asked = {}

    def trace(_model, inputs, **options):
        asked.update(options, device=inputs["input_ids"].device.type)
        raise ConnectionError("no NDIF here")

    monkeypatch.setattr(TransformersModel, "trace", trace)
    with pytest.raises(ConnectionError):
        mn.collect(model, demo_rows[:2], remote=True, progress=False)
    assert (asked["remote"], asked["device"]) == (True, "cpu")
    with pytest.raises(mn.InputError, match="an engine and remote=True cannot go together"):
        mn.collect(model, demo_rows[:2], remote=True, engine=Here(), progress=False)

"""Files of steering vectors: ours bit for bit, those of others by the rules of their readers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import save_file

import mnskills_viz as mn
from mnskills_viz.models import block_modules
from tests.steering.test_hooks import build, logits, push

ADDED = mn.SteeringVector({1: push(1), 3: push(2)})


# ---------------------------------------------------------------------------------- safetensors


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 200),
        arrays(np.float32, 5, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
        min_size=1,
    ),
    st.sampled_from(["add", "ablate"]),
)
def test_a_file_gives_the_same_bits_back(tmp_path_factory, directions, mode):
    if mode == "ablate" and not all(v.any() for v in directions.values()):
        return
    path = tmp_path_factory.mktemp("v") / "vector.safetensors"
    vector = mn.SteeringVector(directions, mode, {"axis": 3, "note": "σ"})
    assert vector.export(path) == path
    found = mn.SteeringVector.load(path)
    assert list(found.directions) == list(vector.directions)
    for block, direction in vector.directions.items():
        assert found.directions[block].tobytes() == direction.tobytes()
    assert (found.mode, found.source) == (vector.mode, vector.source)
    assert found.fingerprint == vector.fingerprint


def test_a_file_explains_itself(tiny_study, tmp_path):
    basis = tiny_study.basis("pca-1")
    vector = mn.SteeringVector.from_axis(basis, 3, dose=2.0)
    path = vector.export(tmp_path / "new" / "folder" / "v.safetensors", "safetensors")
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["mnskills"])
        np.testing.assert_array_equal(
            file.get_tensor("block.1"), 2 * basis.scale_[3] * basis.components_[3]
        )
    assert about["operation"] == "h + block.N"
    assert "output of decoder block" in about["hook_point"]
    assert about["layers"].startswith("0-based")
    assert (about["dose"], about["unit_of_dose"]) == (
        2.0,
        "standard deviations of the pooled coordinate",
    )
    assert about["model_revision"] == basis.source_["model"]["revision"]
    assert about["source"] == vector.source
    assert about["version"] == mn.__version__
    before = path.read_bytes()
    vector.export(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["v.safetensors"]
    assert mn.SteeringVector.load(path).source == vector.source


def metadata(path: Path) -> dict:
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["mnskills"])


def test_files_that_are_damaged_or_of_others_are_refused_in_one_line(tmp_path):
    good = ADDED.export(tmp_path / "good")
    about = metadata(good)
    tensors = {f"block.{b}": v for b, v in ADDED.directions.items()}

    def with_about(**changes):
        changed = {k: v for k, v in (about | changes).items() if v != "gone"}
        return {"mnskills": json.dumps(changed)}

    moved = {"block.1": tensors["block.1"], "block.2": tensors["block.3"]}
    cases = [
        ("half", good.read_bytes()[:-40], "not safetensors"),
        ("text", b"dear reader", "not safetensors"),
        ("empty", b"", "not safetensors"),
        ("foreign", (tensors, None), "not a steering vector"),
        ("words", (tensors, {"mnskills": "words"}), "metadata lacks or misnames"),
        ("list", (tensors, {"mnskills": "[]"}), "metadata lacks or misnames"),
        ("later", (tensors, with_about(format=2)), "of format 2, this version reads 1"),
        ("no mode", (tensors, with_about(mode="gone")), "lacks or misnames 'mode'"),
        ("mode", (tensors, with_about(mode="ablate")), "fingerprint"),
        ("strange", (tensors, with_about(mode="multiply")), "mode must be one of"),
        ("moved", (moved, with_about()), "fingerprint"),
        ("names", ({"b": tensors["block.1"]}, with_about()), "metadata lacks or misnames"),
        ("none", ({}, with_about()), "at least one"),
        ("other", ({"block.1": push(5), "block.3": push(6)}, with_about()), "fingerprint"),
    ]
    for name, content, said in cases:
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            save_file(content[0], tmp_path / name, content[1])
        with pytest.raises(mn.InputError, match=said) as caught:
            mn.SteeringVector.load(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    bits = bytearray(good.read_bytes())
    bits[-1] ^= 1
    (tmp_path / "bit").write_bytes(bits)
    for path, said in [
        (tmp_path / "bit", "fingerprint"),
        (tmp_path / "nothing", "cannot read .*nothing"),
        (tmp_path, "cannot read"),
    ]:
        with pytest.raises(mn.InputError, match=said):
            mn.SteeringVector.load(path)


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_places_that_cannot_be_written_are_one_line(tmp_path, kind):
    (tmp_path / "file").write_text("mine")
    for path, said in [
        (tmp_path, "is a folder; expected the name of a file"),
        (tmp_path / "file" / "v", "cannot write"),
    ]:
        with pytest.raises(mn.InputError, match=said) as caught:
            ADDED.export(path, kind)
        assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


# ------------------------------------------------------------------------------------ llama.cpp


def as_llama_cpp_reads(path: Path) -> np.ndarray:
    """By the rules of its loader: row ``N - 1`` is ``direction.N``, zeros where there is none."""
    reader = GGUFReader(path)
    assert reader.get_field("general.architecture").contents() == "controlvector"
    found = {}
    for tensor in reader.tensors:
        name, _, number = tensor.name.partition(".")
        assert name == "direction"
        assert int(number) > 0
        assert tensor.tensor_type.name == "F32"
        assert len(tensor.shape) == 1
        found[int(number)] = np.array(tensor.data)
    (width,) = {len(v) for v in found.values()}
    return np.stack([found.get(n, np.zeros(width)) for n in range(1, max(found) + 1)])


def test_a_control_vector_is_read_back_by_gguf(tmp_path, tiny_model):
    path = ADDED.export(tmp_path / "v.gguf", "gguf")
    expected = np.zeros((3, 32))
    expected[0], expected[2] = push(1), push(2)
    np.testing.assert_array_equal(as_llama_cpp_reads(path), expected)
    reader = GGUFReader(path)
    assert reader.get_field("controlvector.layer_count").contents() == 2
    assert reader.get_field("controlvector.model_hint").contents() == "unknown"
    assert json.loads(reader.get_field("mnskills.about").contents())["mode"] == "add"
    ADDED.export(path, "gguf", tiny_model)
    assert GGUFReader(path).get_field("controlvector.model_hint").contents() == "llama"
    before = path.read_bytes()
    ADDED.export(path, "gguf", tiny_model)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["v.gguf"]


# --------------------------------------------------------------------- lm-evaluation-harness


class Steered:
    """Its steered model, by its rules: names below `base_model`, outputs or their first part."""

    def __init__(self, module, path: Path) -> None:
        with open(path, "rb") as file:
            content = torch.load(file, weights_only=True)
        self.module, self.hooks = module, {}
        for name, info in content.items():
            vector = info["steering_vector"].to(module.device).to(module.dtype)
            coefficient = float(info.get("steering_coefficient", 1.0))
            assert info.get("head_index") is None
            assert info.get("bias") is None
            self.hooks[name] = self.added if info["action"] == "add" else self.clamped
            self.vector = vector * coefficient if info["action"] == "add" else vector
            self.coefficient = coefficient

    def added(self, acts):
        return acts + self.vector

    def clamped(self, acts):
        direction = self.vector / torch.norm(self.vector)
        along = torch.sum(acts * direction, dim=-1, keepdim=True)
        return acts + direction * (self.coefficient - along)

    def logits(self, model):
        handles = []
        for name, module in self.module.base_model.named_modules():
            if name in self.hooks:
                handles.append(module.register_forward_hook(self.changing(self.hooks[name])))
        assert len(handles) == len(self.hooks), "Not all hookpoints could be resolved"
        try:
            return logits(model)
        finally:
            for handle in handles:
                handle.remove()

    @staticmethod
    def changing(change):
        def hook(_module, _args, output):
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        return hook


@pytest.mark.parametrize("mode", ["add", "ablate"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "opt"])
def test_lm_eval_steers_as_we_do(tiny_model, tmp_path, name, mode):
    """`layers.N` is right for Llama and GPT-NeoX; other models have to be given."""
    model = build(name, tiny_model.tokenizer)
    vector = mn.SteeringVector({1: push()}, mode)
    with vector.apply(model):
        expected = logits(model)
    path = vector.export(tmp_path / "v.pt", "lm-eval", model)
    found = Steered(model._module, path).logits(model)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found - logits(model)).abs().max() > 1e-3
    (hookpoint,) = torch.load(path, weights_only=True)
    assert model._module.base_model.get_submodule(hookpoint) is block_modules(model)[1]
    vector.export(path, "lm-eval")
    resolves = "layers.1" in dict(model._module.base_model.named_modules())
    assert resolves == (name in ("llama", "gpt_neox"))
    assert list(torch.load(path, weights_only=True)) == ["layers.1"]


# --------------------------------------------------------------------------------------- errors


def test_what_a_format_cannot_hold_is_refused_in_one_line(tmp_path, tiny_model):
    ablation = mn.SteeringVector({1: push()}, "ablate")
    first, one = mn.SteeringVector({0: push(), 1: push()}), mn.SteeringVector({1: push()})
    deep = mn.SteeringVector({7: push()})
    odd = mn.SteeringVector({1: push()}, source={"made by": object()})
    for vector, name, arguments, said in [
        (ablation, "v.gguf", ("gguf",), "removes a component"),
        (first, "v.gguf", ("gguf",), "cannot steer block 0"),
        (first, "v.pt", ("lm-eval",), "steers 2 blocks, and an lm-eval file holds one"),
        (one, "v.bin", ("lm-eval",), "lm-eval reads .pt and .pth only"),
        (one, "v.bin", ("pickle",), "format must be one of gguf, lm-eval, safetensors"),
        (deep, "v.pt", ("lm-eval", tiny_model), "block 7 is not there"),
        (odd, "v", ("safetensors",), "the source of the steering vector.*JSON cannot hold"),
    ]:
        with pytest.raises(mn.InputError, match=said) as caught:
            vector.export(tmp_path / name, *arguments)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []

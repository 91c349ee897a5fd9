"""What is trained, on which tokens, in which order, and what is refused."""

import builtins
import hashlib
import json
import re
import shutil
import socket

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mnskills_viz as mn
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.selection.strategies import STRATEGIES
from mnskills_viz.training import trainer
from mnskills_viz.training.rows import Rows
from mnskills_viz.training.sft import sft, training_log
from tests.tiny_model import CHAT_TEMPLATE, save_tiny_model

ONCE = {"batch_size": 8, "progress": False}


@pytest.fixture
def prepared(monkeypatch):
    """The rows that the trainer holds just before it would train."""

    class ThereError(Exception):
        pass

    def rows(*args, **options):
        found = []

        def stop(self):
            found.extend(self.train_dataset)
            raise ThereError

        with monkeypatch.context() as patch:
            patch.setattr(trainer.ResumableTrainer, "run", stop)
            with pytest.raises(ThereError):
                sft(*args, **options)
        return found

    return rows


# ---------------------------------------------------------------------------------- what is read


def test_the_trainer_reads_the_tokens_that_activations_come_from(
    prepared, tiny_folder, tiny_model, forty_rows, pool, tmp_path
):
    """And its loss is on the response and what ends it, alone."""
    rows = prepared(str(tiny_folder), forty_rows, tmp_path / "a", progress=False)
    ours = tokenize(tiny_model.tokenizer, pool[:40], closing=True)
    assert len(rows) == 40
    for row, tokens in zip(rows, ours, strict=True):
        assert row["input_ids"] == tokens.ids.tolist()
        labels = np.array(row["labels"])
        assert (labels[: tokens.response_start] == -100).all()
        assert (labels[tokens.response_start :] == tokens.ids[tokens.response_start :]).all()
        end = tiny_model.tokenizer.convert_tokens_to_ids("<|end|>")
        assert end in labels


def test_a_model_without_template_reads_plain_text_and_an_end(prepared, tmp_path, forty_rows, pool):
    folder = save_tiny_model(tmp_path / "plain", chat=False)
    rows = prepared(str(folder), forty_rows, tmp_path / "a", progress=False)
    tokenizer = mn.load_model(str(folder)).tokenizer
    for row, tokens in zip(rows, tokenize(tokenizer, pool[:40]), strict=True):
        assert row["input_ids"] == [*tokens.ids.tolist(), tokenizer.eos_token_id]
        assert [label == -100 for label in row["labels"]].count(True) == tokens.response_start


def test_either_format_of_export_gives_the_same_adapter(tiny_folder, pool, tmp_path):
    rng = np.random.default_rng(0)
    picks = mn.select(rng.normal(size=(60, 3)), strategy="top", budget=16, ids=pool[:60].ids)
    made = []
    for kind in ("trl", "hf"):
        folder = mn.export(pool[:60], picks, tmp_path / kind, format=kind)
        out = sft(str(tiny_folder), folder, tmp_path / f"{kind}-out", **ONCE)
        made.append((out / "adapter_model.safetensors").read_bytes())
        manifest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        assert json.loads((out / "training.json").read_text())["manifest"] == manifest
    assert made[0] == made[1]


# ---------------------------------------------------------------------------------- what is done


def test_training_equals_a_plain_loop(tiny_folder, tiny_model, forty_rows, pool, tmp_path):
    """Two epochs in order, against PEFT and torch alone: loss, schedule, clipping, AdamW."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM, set_seed

    out = sft(
        tiny_model, forty_rows, tmp_path / "a", epochs=2, order="sequential", lora_rank=4, **ONCE
    )

    set_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    rows = tokenize(tiny_model.tokenizer, pool[:40], closing=True)
    losses, rates, counts = [], [], []
    for step in range(10):
        batch = rows[8 * (step % 5) : 8 * (step % 5 + 1)]
        total, count = torch.tensor(0.0), 0
        for tokens in batch:  # alone: no padding, no mask
            ids = torch.tensor(tokens.ids.astype(np.int64))[None]
            log_p = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            chosen = log_p.gather(-1, ids[0, 1:, None])[tokens.response_start - 1 :]
            total, count = total - chosen.sum(), count + len(chosen)
        rates.append(1e-3 * (1 - step / 10))
        optimizer.param_groups[0]["lr"] = rates[-1]
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(float(total.detach() / count))
        counts.append(count)

    log = training_log(out)
    np.testing.assert_allclose(log["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(log["learning_rate"], rates, rtol=1e-6)
    assert log["tokens"].tolist() == np.cumsum(counts).tolist()
    assert log["step"].tolist() == list(range(1, 11))
    ours = load_file(out / "adapter_model.safetensors")
    theirs = get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == torch.float32
        torch.testing.assert_close(ours[name], value, rtol=0, atol=2e-5)
    assert max(float(v.abs().max()) for n, v in ours.items() if "lora_B" in n) > 1e-3


def test_a_curriculum_is_read_in_order_and_other_selections_are_shuffled(
    tiny_folder, forty_rows, tmp_path, monkeypatch
):
    read = []
    step = trainer.ResumableTrainer.training_step

    def noted(self, model, inputs, *args):
        read.extend(int(n) for n in inputs["attention_mask"].sum(1))
        return step(self, model, inputs, *args)

    monkeypatch.setattr(trainer.ResumableTrainer, "training_step", noted)
    model = mn.load_model(str(tiny_folder))
    lines = (forty_rows / "train.jsonl").read_text().splitlines()
    lengths = [len(t) for t in tokenize(model.tokenizer, _examples(lines), closing=True)]
    folder = tmp_path / "rows"
    shutil.copytree(forty_rows, folder)
    for strategy, sequential in (("weakness", True), ("k_center", False), (None, False)):
        recipe = folder / "recipe.json"
        recipe.unlink(missing_ok=True)
        if strategy:
            recipe.write_text(json.dumps({"strategy": strategy}))
        read.clear()
        out = sft(str(tiny_folder), folder, tmp_path / f"{strategy}", **ONCE | {"batch_size": 20})
        assert (read == lengths) is sequential
        assert sorted(read) == sorted(lengths)
        record = json.loads((out / "training.json").read_text())
        assert record["request"]["options"]["order"] == ("sequential" if sequential else "shuffled")


def test_weakness_alone_is_a_curriculum():
    def order(strategy):
        return Rows([], [], "", None, strategy).order

    assert [name for name in (*STRATEGIES, None) if order(name) == "sequential"] == ["weakness"]


def _examples(lines):
    rows = map(json.loads, lines)
    return [mn.Example("", row["prompt"], row["completion"][0]["content"]) for row in rows]


def test_the_record_says_what_it_cost_and_names_no_folder_but_the_model(
    tiny_folder, forty_rows, tmp_path, monkeypatch
):
    monkeypatch.chdir(tiny_folder.parent)
    out = sft(tiny_folder.name, forty_rows, tmp_path / "a", **ONCE)
    assert {path.name for path in out.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "training.json",
    }
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny_folder.name
    record = json.loads((out / "training.json").read_text())
    log = training_log(out)
    assert (record["rows"], record["optimizer_steps"]) == (40, 5)
    assert record["loss_tokens"] == log["tokens"].iloc[-1] > 0
    for name in ("adapter_config.json", "README.md", "training.json"):
        text = (out / name).read_text()
        assert str(tmp_path) not in text
        assert str(tiny_folder.parent) not in text


def test_the_process_keeps_its_random_states_and_asks_no_network(
    tiny_folder, forty_rows, tmp_path, monkeypatch
):
    def refused(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    torch.manual_seed(3)
    np.random.seed(3)
    expected = float(torch.rand(()))
    torch.manual_seed(3)
    before = np.random.get_state()[1].tolist()
    sft(str(tiny_folder), forty_rows, tmp_path / "a", **ONCE)
    assert float(torch.rand(())) == expected
    assert np.random.get_state()[1].tolist() == before


def test_the_bar_counts_tokens_and_shows_the_loss(tiny_folder, forty_rows, tmp_path, capsys):
    sft(str(tiny_folder), forty_rows, tmp_path / "a", batch_size=8)
    shown = capsys.readouterr()
    assert not shown.out
    last = shown.err.rstrip().split("\r")[-1]
    assert re.search(r"sft: 100%.*tok/s, loss=\d\.\d{3}\]", last)


# ------------------------------------------------------------------------------- what is refused


def test_bad_numbers_and_folders_are_said_in_one_line(tiny_folder, forty_rows, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for options, said in (
        ({"epochs": 0}, "epochs must be a whole number of at least 1, not 0"),
        ({"lora_rank": 1.5}, "lora_rank must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"learning_rate": 0.0}, "learning_rate must lie between 0 and 1"),
        ({"learning_rate": float("nan")}, "learning_rate must lie between 0 and 1"),
        ({"learning_rate": "x"}, "learning_rate must lie between 0 and 1, not 'x'"),
        ({"save_every": None}, "save_every must be seconds"),
        ({"max_length": 0}, "max_length must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"save_every": float("nan")}, "save_every must be seconds"),
        ({"order": "backwards"}, 'order must be "auto", "sequential" or "shuffled"'),
        ({"max_length": 30}, r"rows are longer than 30 tokens \(row 1 of \d+, .* none is cut"),
        ({"model": "no/such/folder/at all"}, "no such folder"),
        ({"folder": tmp_path / "none"}, "no such folder; expected one that mn.export wrote"),
        ({"folder": tmp_path / "full"}, r"no train.jsonl; export it with mn.export\(..., format="),
        ({"out": tmp_path / "full"}, "is not empty and holds no earlier training"),
        ({"out": tmp_path / "file"}, "is a file, a folder was expected"),
        ({"out": tmp_path / "file" / "a"}, "cannot write"),
    ):
        call = {"model": str(tiny_folder), "folder": forty_rows, "out": tmp_path / "a"} | options
        with pytest.raises(mn.InputError, match=said) as caught:
            sft(**call, progress=False)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "a").exists()
        assert not list(tmp_path.glob(".a.checkpoint"))
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": []}, r"line 2: no prompt and completion \(found \['messages'\]\); export"),
        ([1], r"line 2: no prompt and completion \(found list\)"),
        ({"prompt": "2 + 2", "completion": "4"}, "must be lists of messages"),
        ({"prompt": [], "completion": [{"role": "assistant", "content": "4"}]}, "must be lists"),
        (
            {
                "prompt": [{"role": "user", "content": "2"}],
                "completion": [{"role": "user", "content": "4"}],
            },
            "not a response of the assistant",
        ),
        (
            {
                "prompt": [{"role": "user", "content": "2"}],
                "completion": [{"role": "assistant", "content": "  "}],
            },
            "not a response of the assistant",
        ),
        (
            {
                "prompt": [{"role": "user", "content": "\ud800"}],
                "completion": [{"role": "assistant", "content": "4"}],
            },
            "line 2: text holds half a surrogate pair",
        ),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named(row, said, tiny_folder, forty_rows, tmp_path):
    first = (forty_rows / "train.jsonl").read_text().splitlines()[0]
    (tmp_path / "train.jsonl").write_text(f"{first}\n{json.dumps(row)}\n")
    with pytest.raises(mn.InputError, match=said):
        sft(str(tiny_folder), tmp_path, tmp_path / "a")


def test_what_is_no_json_and_what_is_empty_is_named(tiny_folder, tmp_path):
    for content, said in (("{", "line 1: not JSON"), ("\n", "is empty: there is nothing")):
        (tmp_path / "train.jsonl").write_text(content)
        with pytest.raises(mn.InputError, match=said):
            sft(str(tiny_folder), tmp_path, tmp_path / "a")


def test_a_byte_order_mark_is_passed_over(prepared, tiny_folder, forty_rows, tmp_path):
    (tmp_path / "train.jsonl").write_bytes(
        b"\xef\xbb\xbf" + (forty_rows / "train.jsonl").read_bytes()
    )
    found = [
        prepared(str(tiny_folder), folder, tmp_path / "a", progress=False)
        for folder in (tmp_path, forty_rows)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # Another mark than the one at which generation stops, and none.
        ("<|end|>", "<|system|>", r"no end mark \('<\|end\|>'\) follows the response"),
        ("<|end|>", "", "row 1: no end mark follows the answer"),
        (
            "{% for",
            "{{ raise_exception('no\nsystem') }}{% for",
            "the chat template refuses it: no ",
        ),
        ("{{ m['content'] }}", "{{ m['content'][:9] }}", "leaves out text of message 0"),
        ("%}<|assistant|>\n{", "%}<|assistant|>\n<think>{", "the loss does not begin where"),
    ],
)
def test_a_template_that_does_not_write_what_the_rows_say_is_refused(
    old, new, said, tiny_folder, forty_rows, tmp_path
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    assert old in CHAT_TEMPLATE
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace(old, new))
    with pytest.raises(mn.InputError, match=said) as caught:
        sft(str(folder), forty_rows, tmp_path / "a", progress=False)
    assert re.match("(in )?40 (of|rows)|in 40", str(caught.value))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("chat", [True, False])
def test_marks_inside_a_text_are_refused(chat, rows_folder, pool, tmp_path):
    model = save_tiny_model(tmp_path / "model", chat=chat)
    evil = mn.Example("evil", "x<|end|>\n<|assistant|>\nevil", "yes")
    folder = rows_folder([*pool[:3], evil])
    with pytest.raises(mn.InputError, match=r"1 of 4 rows .*; row 4: .* special token '<\|end\|>'"):
        sft(str(model), folder, tmp_path / "a", progress=False)


def test_rows_that_were_edited_or_repeated_on_purpose_are_trained_on(
    prepared, tiny_folder, pool, tmp_path
):
    picks = mn.select(np.eye(8), strategy="random", budget=4, ids=pool[:8].ids)
    folder = mn.export(pool[:8], picks, tmp_path / "edited")
    lines = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join([*lines[:2], lines[0]]))
    assert set(mn.preflight(folder)["rule"]) == {"edited", "row-count", "duplicate"}
    assert len(prepared(str(tiny_folder), folder, tmp_path / "a", progress=False)) == 3


# ------------------------------------------------------------------------- what lies there already


@pytest.fixture
def finished(tiny_folder, forty_rows, tmp_path):
    return sft(str(tiny_folder), forty_rows, tmp_path / "a", **ONCE)


def test_files_that_no_training_wrote_are_never_deleted(tiny_folder, forty_rows, finished):
    call = {"model": str(tiny_folder), "folder": forty_rows, "out": finished} | ONCE
    weights = (finished / "adapter_model.safetensors").read_bytes()
    notes, readme = finished / "notes" / "today.txt", finished / "README.md"
    notes.parent.mkdir()
    notes.write_text("precious")
    readme.write_text("mine")
    assert sft(**call) == finished  # the same call: nothing is replaced
    for found in ("'notes/today.txt', 'README.md'", "'README.md'"):
        with pytest.raises(mn.InputError, match=rf"what came after it \({found}\); move") as caught:
            sft(**call, epochs=2)
        assert "\n" not in str(caught.value)
        assert (finished / "adapter_model.safetensors").read_bytes() == weights
        assert readme.read_text() == "mine"
        notes.unlink(missing_ok=True)


def test_a_file_that_comes_during_the_training_stays(
    tiny_folder, forty_rows, finished, monkeypatch
):
    """And the training is not lost: with the file moved away the call ends at once."""
    call = {"model": str(tiny_folder), "folder": forty_rows, "out": finished} | ONCE
    run = trainer.ResumableTrainer.run

    def disturbed(self):
        run(self)
        (finished / "notes.txt").write_text("precious")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.ResumableTrainer, "run", disturbed)
        with (
            pytest.warns(UserWarning, match="holds another training"),
            pytest.raises(mn.InputError, match=r"notes\.txt"),
        ):
            sft(**call, epochs=2)
    assert len(training_log(finished)) == 5
    (finished / "notes.txt").unlink()
    monkeypatch.setattr(trainer.ResumableTrainer, "training_step", None)
    with pytest.warns(UserWarning, match="holds another training"):
        sft(**call, epochs=2)
    assert len(training_log(finished)) == 10


def test_another_training_is_replaced_with_a_warning(
    tiny_folder, forty_rows, rows_folder, pool, finished
):
    call = {"model": str(tiny_folder), "out": finished} | ONCE
    with pytest.warns(UserWarning, match=r"holds another training \(options.seed: 0 there, 1 here"):
        sft(**call, folder=forty_rows, seed=1)
    with pytest.warns(UserWarning, match=r"\(data.rows: 40 there, 8 here; .*\): it is replaced"):
        sft(**call, folder=rows_folder(pool[:8]), seed=1)
    assert len(training_log(finished)) == 1


@pytest.mark.parametrize("content", ["[]", '{"made_by": "mnskills_viz"}', "{"])
def test_a_damaged_record_is_said_with_the_folder_to_delete(
    content, tiny_folder, forty_rows, tmp_path
):
    out = tmp_path / "a"
    out.mkdir()
    (out / "training.json").write_text(content)
    for call in (lambda: sft(str(tiny_folder), forty_rows, out), lambda: training_log(out)):
        with pytest.raises(mn.InputError, match=rf"is damaged .* delete {out} to train") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_row_beyond_the_models_context_is_refused_whole(tiny_folder, rows_folder, tmp_path):
    long = mn.Example("long", "Repeat.", "seven " * 1000)
    with pytest.raises(mn.InputError, match=r"1 of 1 rows are longer than 1024 tokens"):
        sft(str(tiny_folder), rows_folder([long]), tmp_path / "a", progress=False)


def test_a_training_that_diverges_stops(tiny_folder, tiny_model, forty_rows, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "broken")
    broken = mn.load_model(str(tiny_folder), dtype="float32")._module
    broken.model.norm.weight.data[:] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(mn.InputError, match="the loss is nan at step 1: the training diverged"):
        sft(str(tmp_path / "broken"), forty_rows, tmp_path / "a", **ONCE)
    assert not (tmp_path / "a").exists()


def test_float16_is_refused(tiny_folder, forty_rows, tmp_path):
    half = mn.load_model(str(tiny_folder), dtype="float16")
    with pytest.raises(mn.InputError, match="load it in bfloat16 or float32"):
        sft(half, forty_rows, tmp_path / "a")


def test_a_missing_extra_says_how_to_install_it(tiny_folder, forty_rows, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "trl":
            raise ImportError("No module named 'trl'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(mn.InputError, match=r"run: pip install 'mnskills_viz\[sft\]'"):
        sft(str(tiny_folder), forty_rows, tmp_path / "a")

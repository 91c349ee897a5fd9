"""What the five trainers read: lines, configurations, and the consumers that are installed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from mnskills_viz.corpus import load_corpus
from mnskills_viz.exporting import FORMATS, export
from mnskills_viz.exporting.trainer import room_for
from mnskills_viz.selection import select

from .conftest import questions, read_rows

datasets = pytest.importorskip("datasets")

LADDER = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 2 + 2?"},
]


def conversations():
    """A dozen of rows, one of them with an earlier answer in its prompt."""
    return [*questions(11), {"id": "ladder", "prompt": LADDER, "response": "4"}]


def ladder_of(folder):
    return next(row for row in read_rows(folder) if "Be short." in json.dumps(row))


# ---------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("fmt", ["openai", "axolotl", "llama-factory"])
def test_a_line_holds_messages_and_nothing_else(exported, fmt):
    for row in read_rows(exported(fmt)):
        assert set(row) == {"messages"}
        assert [set(message) for message in row["messages"]] == [{"role", "content"}] * 2
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize("fmt", ["openai", "axolotl", "llama-factory"])
def test_the_loss_is_on_the_last_answer_only(exported, fmt):
    folder = exported(fmt, conversations())
    messages = ladder_of(folder)["messages"]
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]
    assert plain == [*LADDER, {"role": "assistant", "content": "4"}]
    marks = [set(m) - {"role", "content"} for m in messages]
    if fmt == "llama-factory":
        assert config(folder)["mask_history"] is True
        assert not any(marks)
    else:
        mark = {"openai": "weight", "axolotl": "train"}[fmt]
        assert marks == [set(), set(), {mark}, set(), set()]
        assert not messages[2][mark]


# ------------------------------------------------------------------------------- configurations


def config(folder):
    names = ("sft.yaml", "axolotl.yaml", "train.yaml")
    there = next(folder / name for name in names if (folder / name).is_file())
    return yaml.safe_load(there.read_text(encoding="utf-8"))


def test_axolotl_reads_the_curriculum_in_order(exported):
    said = config(exported("axolotl"))
    assert said["curriculum_sampling"] is True
    assert said["shuffle_merged_datasets"] is False
    assert said["sample_packing"] is False
    (rows,) = said["datasets"]
    assert (rows["path"], rows["type"]) == ("train.jsonl", "chat_template")
    assert rows["field_messages"] == "messages"
    assert rows["roles_to_train"] == ["assistant"]
    assert said["train_on_inputs"] is False
    assert isinstance(said["learning_rate"], float)


def test_axolotls_prepared_rows_are_those_of_this_export(exported, tmp_path):
    """Axolotl keeps prepared rows by configuration: another export must have another name."""
    first = config(exported("axolotl"))["dataset_prepared_path"]
    second = config(exported("axolotl", questions(13)))["dataset_prepared_path"]
    assert first != second
    assert first == config(exported("axolotl"))["dataset_prepared_path"]


def test_llama_factory_is_told_all_seven_tags(exported):
    folder = exported("llama-factory")
    said = config(folder)
    info = json.loads((folder / "dataset_info.json").read_text())[said["dataset"]]
    assert info["file_name"] == "train.jsonl"
    assert info["formatting"] == "sharegpt"
    assert info["columns"] == {"messages": "messages"}
    assert set(info["tags"]) == {
        f"{name}_tag"
        for name in ("role", "content", "user", "assistant", "observation", "function", "system")
    }
    assert said["dataset_dir"] == "."
    assert said["stage"] == "sft"
    assert said["finetuning_type"] == "lora"
    assert said["disable_shuffling"] is True
    assert isinstance(said["learning_rate"], float)


def test_openais_job_lacks_nothing_but_the_file(exported):
    job = json.loads((exported("openai") / "job.json").read_text())
    assert job["method"]["type"] == "supervised"
    assert {"model", "method"} <= set(job)
    assert "training_file" not in job


@pytest.mark.parametrize(
    ("fmt", "name"), [("axolotl", "sequence_len"), ("llama-factory", "cutoff_len")]
)
def test_the_limit_cuts_no_row_of_any_tokenizer_of_bytes(exported, fmt, name):
    long = [{"prompt": "é" * 3000, "response": "漢" * 2000}, *questions(11)]
    limit = config(exported(fmt, long))[name]
    assert limit >= len(("é" * 3000 + "漢" * 2000).encode())
    assert config(exported(fmt))[name] == room_for(0)


def test_a_model_of_the_hub_is_named_and_a_local_one_is_not(tmp_path):
    corpus = load_corpus(questions())
    selection = select(np.eye(12, 2), "random", 12, ids=corpus.ids)
    keys = {"trl": "model_name_or_path", "axolotl": "base_model"}
    keys |= {"llama-factory": "model_name_or_path", "hf": "model_name_or_path"}
    for name, expected in (("org/model-1", "org/model-1"), ("/home/me/model", "MODEL")):
        selection.recipe["model"] = {"name": name, "revision": "none", "weights": "00"}
        selection.recipe.update(basis="pca-1", layer=1, basis_fingerprint="00")
        for fmt, key in keys.items():
            folder = export(corpus, selection, tmp_path / "out", fmt)
            assert config(folder)[key] == expected


def test_every_card_says_how_to_train(exported):
    commands = {
        "trl": "trl sft --config sft.yaml",
        "openai": "fine_tuning.jobs.create",
        "axolotl": "axolotl train axolotl.yaml",
        "llama-factory": "llamafactory-cli train train.yaml",
        "hf": "trl sft --config sft.yaml",
    }
    for fmt in FORMATS:
        folder = exported(fmt)
        section = (folder / "README.md").read_text().split("## Train")[1].split("## ")[0]
        assert commands[fmt] in section
        for file in re.findall(r"`([a-z_]+\.(?:yaml|json|jsonl))`", section):
            assert (folder / file).is_file()


# -------------------------------------------------------------------------------------- consumers


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("fmt", ["trl", "hf"])
def test_trl_trains_from_the_configuration(
    exported, fmt, tiny_folder, tmp_path, monkeypatch, own_cache
):
    """The file goes through TRL's own command, and one step is taken."""
    pytest.importorskip("peft")
    sft = pytest.importorskip("trl.scripts.sft")

    folder = exported(fmt, conversations())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.chdir(folder)
    options = ["--model_name_or_path", str(tiny_folder), "--output_dir", str(tmp_path / "out")]
    options += ["--max_steps", "1", "--use_cpu", "true", "--bf16", "false"]
    parsed = sft.make_parser().parse_args_and_config(["--config", "sft.yaml", *options])
    script, args, model, mixture = parsed
    assert args.max_length is None
    assert args.train_sampling_strategy == "sequential"
    assert args.completion_only_loss is True
    assert not args.packing

    seen = []
    step = sft_trainer().training_step

    def spy(self, model, inputs, *rest, **options):
        seen.append(inputs)
        return step(self, model, inputs, *rest, **options)

    monkeypatch.setattr(sft_trainer(), "training_step", spy)
    sft.main(script, args, model, mixture)
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    # The first batch is the first eight rows, in order, with the loss on their answers alone.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    (batch,) = seen
    for row, ids, labels in zip(
        read_rows(folder)[:8], batch["input_ids"], batch["labels"], strict=True
    ):
        prompt = tokenizer.apply_chat_template(
            row["prompt"], tokenize=True, add_generation_prompt=True, return_dict=False
        )
        whole = tokenizer.apply_chat_template(
            row["prompt"] + row["completion"], tokenize=True, return_dict=False
        )
        assert ids.tolist()[: len(whole)] == whole
        learnt = labels.tolist()
        assert learnt[: len(prompt)] == [-100] * len(prompt)
        assert learnt[len(prompt) : len(whole)] == whole[len(prompt) :]
        assert set(learnt[len(whole) :]) <= {-100}


def sft_trainer():
    from trl import SFTTrainer

    return SFTTrainer


def test_rows_longer_than_trls_default_stay_whole(
    exported, tiny_folder, tmp_path, monkeypatch, own_cache
):
    sft = pytest.importorskip("trl.scripts.sft")
    from trl import SFTTrainer, get_dataset

    words = " ".join(map(str, np.arange(3000)))
    folder = exported("trl", [{"prompt": words, "response": "many"}, *questions(11)])
    monkeypatch.chdir(folder)
    options = ["--use_cpu", "true", "--bf16", "false", "--output_dir", str(tmp_path / "out")]
    _, args, _, mixture = sft.make_parser().parse_args_and_config(
        ["--config", "sft.yaml", *options]
    )
    trainer = SFTTrainer(str(tiny_folder), args=args, train_dataset=get_dataset(mixture)["train"])
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    assert max(lengths) > 3000
    assert len(lengths) == 12


def test_configurations_hold_no_path_of_this_machine(exported, tmp_path):
    for fmt in FORMATS:
        folder: Path = exported(fmt)
        for file in folder.rglob("*"):
            if file.is_file():
                assert str(tmp_path).encode() not in file.read_bytes()

"""Preflight with a tokenizer: lengths and masks, against what TRL itself makes of the rows."""

import json
import shutil

import numpy as np
import pytest

from mnskills_viz.errors import InputError
from mnskills_viz.exporting import FORMATS, preflight

from .conftest import LINES, found, questions, read_rows, spoil, write_rows

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_folder)


@pytest.fixture
def templated(tiny_folder):
    """A tokenizer of one's own with another chat template."""
    from transformers import AutoTokenizer

    def make(template):
        tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
        tokenizer.chat_template = template
        return tokenizer

    return make


PLAIN = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


def of_all_lengths():
    """Rows, no two alike, whose prompts and answers are of one to eighty words."""
    draw = np.random.default_rng(0)
    return [
        {"prompt": "why " * int(p) + str(i), "response": "so " * int(r), "id": str(i)}
        for i, (p, r) in enumerate(draw.integers(1, 80, size=(60, 2)))
    ]


def prepared_by_trl(folder, tiny_folder, tmp_path, max_length):
    """Input ids and labels of the rows that TRL trains on."""
    trl = pytest.importorskip("trl")
    rows = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    rows = rows.select_columns(["prompt", "completion"])
    args = trl.SFTConfig(
        output_dir=str(tmp_path / "out"), max_length=max_length, use_cpu=True, bf16=False
    )
    trainer = trl.SFTTrainer(str(tiny_folder), args=args, train_dataset=rows)
    return trainer.train_dataset


# --------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("fmt", ["trl", "hf"])
def test_trl_cuts_and_drops_exactly_the_rows_that_preflight_names(
    exported, fmt, tiny_folder, tokenizer, tmp_path
):
    folder = exported(fmt, of_all_lengths())
    limit = 100
    whole = prepared_by_trl(folder, tiny_folder, tmp_path, None)["input_ids"]
    taken = prepared_by_trl(folder, tiny_folder, tmp_path, limit)["input_ids"]

    table = preflight(folder, tokenizer, max_length=limit)
    assert set(table["rule"]) == {"too-long"}
    assert table["row"].tolist() == [i for i, ids in enumerate(whole) if len(ids) > limit]
    dropped = table["message"].str.contains("dropped")
    assert dropped.sum() == len(whole) - len(taken) > 0
    assert (~dropped).sum() == sum(len(ids) == limit for ids in taken) - sum(
        len(ids) == limit for ids in whole
    )
    for row, message in zip(table["row"], table["message"], strict=True):
        assert message.startswith(f"{len(whole[row])} tokens, max_length is {limit}")


def test_the_limit_is_the_configurations_or_the_models(exported, tiny_folder, tokenizer):
    """The tiny model knows 1,024 positions; `sft.yaml` says no limit, until it is edited."""
    folder = exported("trl", [{"prompt": "why " * 900, "response": "so " * 300}, *questions(11)])
    table = preflight(folder, str(tiny_folder))
    assert table["rule"].tolist() == ["too-long"]
    assert "the model's context is 1024" in table["message"][0]
    assert preflight(folder, tokenizer).empty  # a tokenizer alone knows no context
    (folder / "sft.yaml").write_text(
        (folder / "sft.yaml").read_text().replace("max_length: null", "max_length: 5")
    )
    table = preflight(folder, tokenizer)
    assert len(table) == 12
    assert table["message"].str.contains("max_length in sft.yaml is 5").all()


@pytest.mark.parametrize(
    ("fmt", "config", "key"),
    [("axolotl", "axolotl.yaml", "sequence_len"), ("llama-factory", "train.yaml", "cutoff_len")],
)
def test_each_configuration_has_its_own_limit(exported, tokenizer, fmt, config, key):
    folder = exported(fmt, [{"prompt": "why " * 90, "response": "so " * 30}, *questions(11)])
    assert found(folder, tokenizer) == []
    text = (folder / config).read_text()
    (folder / config).write_text("\n".join(
        f"{key}: 60" if line.startswith(key) else line for line in text.split("\n")
    ))  # fmt: skip
    table = preflight(folder, tokenizer)
    assert table["rule"].tolist() == ["too-long"]
    assert f"{key} in {config} is 60" in table["message"][0]


def test_without_a_configuration_trl_cuts_at_its_default(tmp_path, tokenizer):
    row = {
        "prompt": [{"role": "user", "content": "why " * 1200}],
        "completion": [{"role": "assistant", "content": "so"}],
    }
    (tmp_path / LINES).write_text(json.dumps(row) + "\n")
    table = preflight(tmp_path, tokenizer)
    assert "TRL's default max_length is 1024" in table["message"][0]


def test_openais_limit_is_what_is_asked_for(exported, tokenizer):
    folder = exported("openai", of_all_lengths())
    assert found(folder, tokenizer) == []
    assert {rule for _, rule in found(folder, tokenizer, max_length=100)} == {"too-long"}


# ------------------------------------------------------------------------------- chat templates


@pytest.mark.parametrize("fmt", sorted(FORMATS))
def test_an_export_is_in_order_for_a_model(exported, fmt, tiny_folder, tiny_model, tokenizer):
    folder = exported(fmt)
    for model in (str(tiny_folder), tiny_model, tokenizer):
        assert preflight(folder, model).empty


def test_an_export_is_in_order_for_the_embedded_model(exported, embedded):
    folder = exported("trl", of_all_lengths())
    assert preflight(folder, "embedded").empty
    assert preflight(folder, embedded).empty
    lengths = [
        len(
            embedded.tokenizer.apply_chat_template(
                row["prompt"] + row["completion"], tokenize=True, return_dict=False
            )
        )
        for row in read_rows(folder)
    ]
    limit = sorted(lengths)[30]
    named = preflight(folder, "embedded", max_length=limit)["row"].tolist()
    assert named == [i for i, length in enumerate(lengths) if length > limit]


@pytest.mark.parametrize("fmt", ["trl", "axolotl", "llama-factory", "hf"])
def test_two_marks_of_the_beginning_are_named(exported, fmt, templated):
    """The template writes one, and the text that somebody templated before brings another."""
    tokenizer = templated(
        "{{ bos_token }}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    )
    folder = exported(fmt)
    spoil(folder, lambda row: first_turn(row).update(content="<s>What is 3 + 3?"))
    assert (3, "double-bos") in found(folder, tokenizer)
    assert {row for row, _ in found(folder, tokenizer)} == {3}


def first_turn(row):
    return (row["prompt"] if "prompt" in row else row["messages"])[0]


def test_a_templated_text_gets_a_second_mark_from_the_tokenizer(tmp_path, tiny_folder):
    """Plain rows go through the tokenizer with its special tokens: TRL does the same."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    rows = [
        {"prompt": "<s>What is 2 + 2?", "completion": " 4"},
        {"prompt": "What is 1 + 1?", "completion": " 2"},
    ]
    write_lines(tmp_path, rows)
    assert found(tmp_path, tokenizer) == [(0, "double-bos")]

    trl = pytest.importorskip("trl")
    args = trl.SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False)
    trainer = trl.SFTTrainer(
        str(tiny_folder),
        args=args,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    marks = [ids[:2] == [tokenizer.bos_token_id] * 2 for ids in trainer.train_dataset["input_ids"]]
    assert marks == [True, False]


def write_lines(folder, rows):
    (folder / LINES).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_prompt_that_the_whole_row_does_not_begin_with_is_named(exported, templated):
    thinking = "{% if add_generation_prompt %}<|assistant|>\nHm.{% endif %}"
    folder = exported("trl")
    table = preflight(folder, templated(PLAIN + thinking))
    assert set(table["rule"]) == {"prompt-prefix"}
    assert len(table) == 12
    assert "Hm." in table["message"][0]
    assert preflight(folder, templated(PLAIN + OPEN)).empty


def test_a_template_that_swallows_the_answer_is_named(exported, templated):
    silent = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}<|end|>{% endfor %}"
    for fmt in ("trl", "axolotl"):
        rules = {rule for _, rule in found(exported(fmt), templated(silent))}
        assert "empty-completion" in rules
        assert "dropped-text" in rules


def test_a_template_that_leaves_out_the_system_message_is_named(exported, templated):
    prompt = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "1 + 1?"}]
    rows = [{"prompt": prompt, "response": "2", "id": "x"}, *questions(11)]
    no_system = PLAIN.replace("in messages", "in messages if m['role'] != 'system'") + OPEN
    for fmt in ("trl", "axolotl"):
        folder = exported(fmt, rows)
        (number,) = [i for i, row in enumerate(read_rows(folder)) if "Be short" in json.dumps(row)]
        assert found(folder, templated(no_system)) == [(number, "dropped-text")]


def test_a_template_that_refuses_a_row_is_quoted(exported, templated):
    strict = (
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN + OPEN
    )
    folder = exported("trl")
    spoil(folder, lambda row: row["prompt"].insert(0, {"role": "system", "content": "Be short."}))
    table = preflight(folder, templated(strict)).dropna()
    assert table[["row", "rule"]].to_numpy().tolist() == [[3, "template-error"]]
    assert "System role not supported" in table["message"].iloc[0]


def test_a_tokenizer_without_a_template_is_said_once(exported, templated):
    bare = templated(None)
    for fmt in ("trl", "axolotl", "hf"):
        assert found(exported(fmt), bare) == [(None, "no-template")]
    for fmt in ("openai", "llama-factory"):  # they have templates of their own
        assert found(exported(fmt), bare) == []
    assert found(exported("openai", of_all_lengths()), bare, max_length=60) != []


LIST = "{{ m['content'] }}"
EACH = "{% for part in m['content'] %}{{ part }}{% endfor %}"
JOINED = "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
TEXT_OR = "{% if m['content'] is string %}{{ m['content'] }}{% else %}OTHER{% endif %}"


@pytest.mark.parametrize("other", [LIST, EACH, LIST.replace("']", "'] | tojson"), JOINED, ""])
def test_content_in_parts_is_in_order_where_the_template_writes_its_text(
    exported, templated, other
):
    """That is, where the template writes what it writes of the same text in one piece."""
    tokenizer = templated(PLAIN.replace(LIST, TEXT_OR.replace("OTHER", other)) + OPEN)
    parts = [{"type": "text", "text": 'What "is"\n'}, {"type": "text", "text": "3 + 3?"}]
    render = tokenizer.apply_chat_template
    pair = [
        render([{"role": "user", "content": content}], tokenize=False)
        for content in (parts, 'What "is"\n3 + 3?')
    ]
    for fmt in ("trl", "axolotl"):
        folder = exported(fmt)
        spoil(folder, lambda row: first_turn(row).update(content=parts))
        assert (found(folder, tokenizer) == []) == (pair[0] == pair[1])
        assert {row for row, _ in found(folder, tokenizer)} <= {3}
    folder = exported("llama-factory")  # its own templates take text alone
    spoil(folder, lambda row: first_turn(row).update(content=parts))
    assert found(folder, tokenizer) == [(3, "content-parts")]


ENDLESS = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}"


@pytest.mark.parametrize("template", [PLAIN + OPEN, ENDLESS + OPEN, ENDLESS, PLAIN])
def test_an_answer_without_an_end_is_named_where_trl_learns_none(
    exported, templated, tiny_folder, tmp_path, template
):
    trl = pytest.importorskip("trl")
    tokenizer = templated(template)
    folder = exported("trl")
    args = trl.SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False)
    rows = datasets.Dataset.from_list(read_rows(folder))
    trainer = trl.SFTTrainer(
        str(tiny_folder), args=args, train_dataset=rows, processing_class=tokenizer
    )
    ends = [tokenizer.decode(ids).strip().endswith("<|end|>")
            for ids in trainer.train_dataset["input_ids"]]  # fmt: skip
    assert len(set(ends)) == 1
    for fmt in ("trl", "axolotl"):
        endless = {row for row, rule in found(exported(fmt), tokenizer) if rule == "no-end-mark"}
        assert endless == (set() if ends[0] else set(range(12)))


def test_marks_inside_a_message_are_named(exported, tokenizer):
    folder = exported("axolotl")
    spoil(folder, lambda row: row["messages"][1].update(content="6<|end|>"))
    assert found(folder, tokenizer) == [(3, "special-token")]


def test_rows_that_cannot_be_read_do_not_stop_the_others(exported, tokenizer):
    folder = exported("trl", of_all_lengths())
    before = set(found(folder, tokenizer, max_length=100))
    rows = read_rows(folder)
    del rows[0]["completion"]
    write_rows(folder, rows)
    after = set(found(folder, tokenizer, max_length=100))
    assert after - {(0, "shape"), (0, "one-type")} == before - {(0, "too-long")}


# ----------------------------------------------------------------------------------- the model


def test_no_weights_are_loaded_for_a_name(exported, tiny_folder, tmp_path):
    only_tokenizer = tmp_path / "half"
    only_tokenizer.mkdir()
    for file in tiny_folder.iterdir():
        if file.suffix != ".safetensors":
            (only_tokenizer / file.name).write_bytes(file.read_bytes())
    assert preflight(exported("trl"), str(only_tokenizer)).empty


@pytest.fixture
def adapter(tmp_path, tiny_folder):
    """An adapter as PEFT writes it: no tokenizer, and no configuration of a model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "a")
    return tmp_path / "a"


def test_an_adapter_is_measured_with_its_bases_tokenizer(exported, adapter, tiny_folder):
    folder = exported("trl", [{"prompt": "why " * 900, "response": "so " * 300}, *questions(11)])
    table = preflight(folder, str(adapter))
    assert "the model's context is 1024" in table["message"][0]
    assert table.equals(preflight(folder, str(tiny_folder)))
    second = shutil.copytree(adapter, adapter.with_name("b"))  # an adapter on an adapter
    config = json.loads((second / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(adapter)
    (second / "adapter_config.json").write_text(json.dumps(config))
    assert table.equals(preflight(folder, str(second)))


def test_a_tokenizer_beside_an_adapter_comes_first(exported, adapter, templated):
    templated(ENDLESS + OPEN).save_pretrained(adapter)
    assert {rule for _, rule in found(exported("trl"), str(adapter))} == {"no-end-mark"}


def test_code_that_comes_with_a_tokenizer_is_not_run(exported, tmp_path, tiny_folder, monkeypatch):
    folder = shutil.copytree(tiny_folder, tmp_path / "own")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="brings code of its own") as caught:
        preflight(exported("trl"), str(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_model_is_refused_in_one_line(exported, tmp_path):
    folder = exported("trl")
    (tmp_path / "nothing").mkdir()
    for model, reason in (
        ("no/such-model", "no tokenizer"),
        (str(tmp_path / "nothing"), "no tokenizer"),
        ("missing.gguf", "no such file"),
        (object(), "must be a name, a loaded model or a tokenizer"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            preflight(folder, model)
        assert "\n" not in str(caught.value)

"""On the embedded model: two dozen rows of a family teach it that family."""

import json

import numpy as np
import pytest
import torch

import mnskills_viz as mn
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.models import identity
from mnskills_viz.training import trainer
from mnskills_viz.training.sft import sft, training_log

FAMILY = "largest-of-four"
N_ROWS, N_HELD_OUT = 24, 10
N_BEFORE = 5  # held-out examples that the model is asked before, when none is right


@pytest.fixture(scope="module")
def held_out() -> mn.Corpus:
    probe = mn.load_corpus("demo").split("probe")
    return mn.Corpus([e for e in probe if e.meta["family"] == FAMILY][:N_HELD_OUT], "demo")


@pytest.fixture(scope="module")
def rows(pool) -> mn.Corpus:
    return mn.Corpus([e for e in pool if e.meta["family"] == FAMILY][:N_ROWS], "demo")


@pytest.fixture(scope="module")
def trained(embedded, rows, rows_folder, tmp_path_factory):
    """Folder of the adapter, and the rows as the trainer held them."""
    read = []
    run = trainer.ResumableTrainer.run

    def noted(self):
        read.extend(self.train_dataset)
        run(self)

    out = tmp_path_factory.mktemp("adapters") / FAMILY
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.ResumableTrainer, "run", noted)
        options = {"learning_rate": 2e-3, "batch_size": 3, "progress": False}
        sft("embedded", rows_folder(rows), out, **options)
    return out, read


@pytest.fixture(scope="module")
def after(trained):
    return mn.load_model(str(trained[0]))


@pytest.fixture(scope="module")
def before(trained):
    return mn.load_model("embedded")


def loss(model, examples) -> float:
    """Mean nats a response token, by transformers alone."""
    total, count = 0.0, 0
    for tokens in tokenize(model.tokenizer, examples):
        ids = torch.tensor(tokens.ids.astype(np.int64))[None]
        with torch.inference_mode():
            log_p = model._module(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        chosen = log_p.gather(-1, ids[0, 1:, None])[tokens.response_start - 1 :]
        total, count = total - float(chosen.sum()), count + len(chosen)
    return total / count


def answers(model, examples) -> list[str | None]:
    """What follows "Answer:" on the last line, if it does, in greedy text."""
    texts = mn.generate(model, [e.messages for e in examples], max_new_tokens=40)
    last = [text.strip().split("\n")[-1] for (text,) in texts]
    return [
        line.removeprefix("Answer:").strip() if line.startswith("Answer:") else None
        for line in last
    ]


def test_trl_reads_what_we_read_and_trains_on_response_and_end_mark(trained, rows, embedded):
    """The template puts a system prompt before, which is read but not trained on."""
    read = trained[1]
    ours = tokenize(embedded.tokenizer, rows, closing=True)
    assert len(read) == len(ours) == N_ROWS
    for row, tokens in zip(read, ours, strict=True):
        assert row["input_ids"] == tokens.ids.tolist()
        trained_on = [i for i, label in enumerate(row["labels"]) if label != -100]
        assert trained_on == list(range(tokens.response_start, len(tokens)))
    text = embedded.tokenizer.decode(read[0]["input_ids"])
    assert text.startswith("<|im_start|>system\n")
    end = [label for label in read[0]["labels"] if label != -100]
    assert embedded.tokenizer.decode(end) == f"{rows[0].response}<|im_end|>\n"


def test_the_loss_on_held_out_examples_falls(before, after, held_out, trained):
    assert loss(after, held_out) < 0.5 * loss(before, held_out)
    log = training_log(trained[0])
    assert log["loss"].iloc[-3:].mean() < 0.5 * log["loss"].iloc[0]


def test_answers_to_held_out_examples_become_right(before, after, held_out):
    def pass_at_1(model, examples):
        pairs = zip(answers(model, examples), examples, strict=True)
        return np.mean([said == example.answer for said, example in pairs])

    assert pass_at_1(after, held_out) >= pass_at_1(before, held_out[:N_BEFORE]) + 0.2


def test_the_adapter_is_another_model_on_the_same_base(trained, before, after):
    config = json.loads((trained[0] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "embedded"
    ours, base = identity(after), identity(before)
    assert ours.weights != base.weights
    assert ours.name == str(trained[0])
    assert (ours.n_layers, ours.d_model, ours.tokenizer) == (
        base.n_layers,
        base.d_model,
        base.tokenizer,
    )

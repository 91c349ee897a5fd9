"""Rows of many architectures are compared with transformers itself, run alone and padded."""

import functools
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import mnskills_viz as mn
from mnskills_viz import models
from mnskills_viz.activations.tokens import counted, tokenize

GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 1024}
HEADS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
PLAIN = HEADS | {"intermediate_size": 64, "max_position_embeddings": 1024}
GROUPED = PLAIN | {"num_key_value_heads": 2, "head_dim": 8}
SLIDING = GROUPED | {"sliding_window": 16}
MIXED = SLIDING | {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "query_pre_attn_scalar": 8,
}
EXPERTS = GROUPED | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("model.layers", GROUPED),
    "qwen2": ("model.layers", GROUPED),
    "qwen3": ("model.layers", GROUPED),
    "gemma2": ("model.layers", MIXED),
    "gemma3_text": ("model.layers", MIXED),
    "mistral": ("model.layers", SLIDING),
    "phi3": ("model.layers", GROUPED),
    "olmo2": ("model.layers", GROUPED),
    "gpt2": ("transformer.h", GPT),
    "gpt_neox": ("gpt_neox.layers", PLAIN),
    "bloom": ("transformer.h", HEADS),
    "mixtral": ("model.layers", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": ("model.layers", EXPERTS | {"shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("model.layers", EXPERTS),
}
ODD_ONES = {
    # Four lists of the same length, none of them of blocks; layer_norm2 ends each layer. Without a
    # mask, tokens that equal pad_index are padding: one that no text has.
    "xlm": (
        "transformer.layer_norm2",
        {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "causal": True, "pad_index": 4},
    ),
    "openai-gpt": ("transformer.h", GPT),
}
LOUD = "Ġthe"  # a token in the middle of texts whose embedding is far longer than the others
DEAF = {"bloom"}  # normalises embeddings, so that no token is loud

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


class Case:
    """One architecture with random weights: ours, and plain transformers loaded apart."""

    def __init__(self, name: str, folder: Path, tokenizer: Any, corpus: mn.Corpus) -> None:
        self.folder, self.corpus = str(folder), corpus
        self.path, options = (ARCHITECTURES | ODD_ONES)[name]
        ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
        config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **ids, **options)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = AutoModelForCausalLM.from_config(config)
            for parameter in module.parameters():
                if parameter.ndim > 1:  # the usual 0.02 makes every layer nearly the identity
                    parameter.data *= 4
                else:
                    parameter.data += 0.1 * torch.randn_like(parameter)
        loud = tokenizer.convert_tokens_to_ids(LOUD)
        module.get_input_embeddings().weight.data[loud] *= 300
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # Not the same: transformers splits words as the architecture's own tokenizer does.
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def load(self, **options: Any):
        return mn.load_model(self.folder, dtype="float32", **options)

    @functools.cached_property
    def model(self):
        return self.load()

    def plain(self, **options: Any):
        return AutoModelForCausalLM.from_pretrained(self.folder, **options).float().eval()

    def collect(self, model=None, **options: Any) -> mn.Activations:
        return mn.collect(model or self.model, self.corpus, progress=False, **options)

    @functools.cache  # noqa: B019
    def ours(self, token_budget: int, tokens: str) -> np.ndarray:
        return matrices(self.collect(token_budget=token_budget, tokens=tokens))

    def reference(self, padding: str, tokens: str) -> np.ndarray:
        rows = tokenize(self.tokenizer, self.corpus)
        means = [
            [mean_without_sinks(layer, counted(row, tokens)) for layer in blocks]
            for row, blocks in zip(rows, self.states(padding), strict=True)
        ]
        return np.stack(means, axis=1)

    @functools.cache  # noqa: B019
    def states(self, padding: str) -> list[np.ndarray]:
        ids = [row.ids for row in tokenize(self.tokenizer, self.corpus)]
        plain = self.plain()
        if padding == "alone":
            return [residual_stream(plain, self.path, [one])[0] for one in ids]
        return residual_stream(plain, self.path, ids, padding)


def residual_stream(plain, path, sequences, side="right") -> list[np.ndarray]:
    """What every block puts out: an array [n_layers, n_tokens, d_model] a sequence."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), plain.config.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        real = slice(longest - len(sequence), None) if side == "left" else slice(len(sequence))
        ids[i, real] = torch.tensor(sequence, dtype=torch.long)
        mask[i, real] = 1
    inputs = {"input_ids": ids}
    if not mask.all():
        inputs["attention_mask"] = mask
        # Padded on the left, GPT2 would read its learned positions from the padding on; those
        # that are rotated by them do not care, and Bloom, which takes none, counts in the mask.
        if "position_ids" in inspect.signature(plain.forward).parameters:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    last = []  # the last of hidden_states comes after the final norm
    block = plain.get_submodule(path)[-1]
    handle = block.register_forward_hook(lambda _module, _inputs, output: last.append(output))
    with torch.no_grad():
        states = plain(**inputs, output_hidden_states=True, use_cache=False).hidden_states
    handle.remove()
    whole = torch.stack([*states[1:-1], last[0] if torch.is_tensor(last[0]) else last[0][0]])
    return [whole[:, i, real == 1].double().numpy() for i, real in enumerate(mask)]


def mean_without_sinks(hidden, mask):
    norms = np.linalg.norm(hidden, axis=1)
    below = mask & (norms <= 4 * np.sort(norms)[(len(norms) - 1) // 2])
    return hidden[below if below.any() else mask].mean(axis=0)


def matrices(acts: mn.Activations) -> np.ndarray:
    return np.stack([acts.matrix(layer) for layer in acts.layers])


def relative_errors(found, expected) -> np.ndarray:
    """[n_layers, n_rows]."""
    assert found.shape == expected.shape
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


@pytest.fixture(scope="module")
def case_of(tmp_path_factory, tiny_folder, demo_rows):
    words = " ".join(example.prompt for example in demo_rows[10:24])
    made = [
        {"id": "short", "prompt": "2+2?", "response": "4"},
        {"id": "long", "prompt": words, "response": "so be it in the end"},
        {"id": "all that counts is loud", "prompt": words[:200], "response": " the the the"},
    ]
    corpus = mn.Corpus([demo_rows[0], demo_rows[7], demo_rows[50], *mn.load_corpus(made)], "mixed")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)

    @functools.cache
    def build(name: str) -> Case:
        folder = tmp_path_factory.mktemp("architectures") / name
        return Case(name, folder, tokenizer, corpus)

    return build


# ----------------------------------------------------------------------------------------- rows


@every_architecture
def test_the_blocks_are_found_by_structure(case_of, name):
    case = case_of(name)
    who = models.identity(case.model)
    assert models.blocks_path(case.model) == case.path
    assert (who.n_layers, who.d_model) == (len(case.plain().get_submodule(case.path)), 32)


@every_architecture
@pytest.mark.parametrize("padding", ["alone", "left", "right"])
@pytest.mark.parametrize("token_budget", [1, 100_000])
@pytest.mark.parametrize("tokens", ["content", "response"])
def test_every_layer_equals_plain_transformers(case_of, name, padding, token_budget, tokens):
    case = case_of(name)
    errors = relative_errors(case.ours(token_budget, tokens), case.reference(padding, tokens))
    assert errors.max() < 1e-5


@every_architecture
def test_another_layer_would_have_been_noticed(case_of, name):
    rows = case_of(name).reference("alone", "content")
    assert relative_errors(rows[:-1], rows[1:]).min() > 0.1


@every_architecture
def test_a_sink_would_have_been_noticed(case_of, name):
    case = case_of(name)
    loud = case.collect(exclude_sinks=False)
    errors = relative_errors(matrices(loud), case.reference("alone", "content"))[:, 4]
    sinks = [s for s in case.collect().tokens(4)["sink_at"] if s]
    assert (errors > 0.1).all() == (name not in DEAF)
    assert (list(range(len(loud.layers))) in sinks) == (name not in DEAF)


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "mistral"])
def test_a_sliding_window_would_have_been_noticed(case_of, name):
    case = case_of(name)
    long = [tokenize(case.tokenizer, case.corpus)[4].ids]
    (wide,) = residual_stream(case.plain(sliding_window=4096), case.path, long)
    errors = relative_errors(case.states("alone")[4], wide)
    assert errors[:, :16].max() < 1e-5
    assert errors[-1, 100:].mean() > 0.01


@every_architecture
def test_the_tokenizers_padding_side_changes_nothing(case_of, name):
    case = case_of(name)
    before = case.model.tokenizer.padding_side
    try:
        for side in ("left", "right"):
            case.model.tokenizer.padding_side = side
            found = matrices(case.collect(token_budget=100_000))
            np.testing.assert_array_equal(found, case.ours(100_000, "content"))
    finally:
        case.model.tokenizer.padding_side = before


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("token_budget", [1, 100_000])
def test_with_sinks_a_row_is_the_mean_of_all_that_counts(case_of, name, token_budget):
    case = case_of(name)
    options = {"tokens": "all", "token_budget": token_budget}
    found = matrices(case.collect(exclude_sinks=False, **options))
    ids = [row.ids for row in tokenize(case.tokenizer, case.corpus, closing=True)]
    states = residual_stream(case.plain(), case.path, ids)
    expected = np.stack([blocks.mean(axis=1) for blocks in states], axis=1)
    assert relative_errors(found, expected).max() < 1e-5
    assert relative_errors(matrices(case.collect(**options)), expected).max() > 0.1


def test_blocks_that_return_a_list_are_read(case_of):
    case = case_of("openai-gpt")
    errors = relative_errors(case.ours(100_000, "content"), case.reference("alone", "content"))
    assert errors.max() < 1e-5


# ------------------------------------------------------------------------------- blocks by name


def raised(function, *arguments, **options) -> str:
    with pytest.raises(mn.InputError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_blocks_that_are_named_give_the_rows_of_those_that_are_found(case_of):
    case = case_of("llama")
    named = case.collect(case.load(blocks="model.layers"), token_budget=1)
    np.testing.assert_array_equal(matrices(named), case.ours(1, "content"))


@pytest.mark.parametrize("path", ["model.nothing", "model", "model.layers.0", "layers", ""])
def test_a_path_without_blocks_is_refused_at_load(case_of, path):
    said = raised(case_of("llama").load, blocks=path)
    assert f"no module list {path!r}; it has the module lists 'model.layers' of 3" in said


def test_blocks_of_another_number_than_configured_have_to_be_named(case_of):
    case = case_of("llama")
    model, named = case.load(), case.load(blocks="model.layers")
    for one in (model, named):
        one._module.config.num_hidden_layers = 7
    for function in (models.blocks_path, case.collect):
        said = raised(function, model)
        assert "should be 7 by its configuration" in said
        assert "'model.layers' of 3" in said
        assert 'load_model(..., blocks="PATH")' in said
    assert models.blocks_path(named) == "model.layers"


def test_two_lists_of_one_length_have_to_be_told_apart(case_of):
    case = case_of("xlm")
    said = raised(case.collect)
    assert "'transformer.attentions' of 3" in said
    assert "'transformer.layer_norm2' of 3" in said
    assert 'load_model(..., blocks="PATH")' in said
    named = matrices(case.collect(case.load(blocks=case.path)))
    assert relative_errors(named, case.reference("alone", "content")).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        pytest.param("mixtral", "gate", id="no token axis"),
        pytest.param("llama", "up_proj", id="another width"),
    ],
)
def test_a_list_that_is_not_of_blocks_gives_one_line(case_of, name, parts):
    case = case_of(name)
    model = case.load()
    found = [getattr(block.mlp, parts) for block in model._module.model.layers]
    model.parts = torch.nn.ModuleList(found)  # as long as the blocks' list, and less deep
    assert models.blocks_path(model) == "parts"
    said = raised(lambda: matrices(case.collect(model)))
    assert "not the residual stream" in said
    assert 'load_model(..., blocks="model.layers")' in said

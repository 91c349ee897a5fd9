import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import mnskills_viz as mn
from mnskills_viz import decoding
from mnskills_viz.generation import complete
from tests.activations.test_architectures import ARCHITECTURES

PROMPTS = ["2 + 2 is", "The largest of 3, 9, 4 is", "a", "One two three four five six seven", "x y"]
PROMPTS += ["What is 50% of 280? " * 3, "Sort these numbers: 9, 4, 7", "Even or odd: 2144?"]
KINDS = ["llama", "qwen3", "gpt2", "gpt_neox", "bloom", "mixtral"]
KINDS += ["mistral", "gemma2", "gemma3_text"]  # sliding windows, alone and beside full attention
LEFT_TO_TRANSFORMERS = ["mamba", "phi3"]
MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "conv_kernel": 3}


def one_at_a_time(tokenizer, module, prompts, **options):
    """Plain transformers, without batch and padding."""
    texts = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        mask = torch.ones_like(ids)
        out = module.generate(
            ids, attention_mask=mask, do_sample=False, tokenizer=tokenizer, **options
        )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


@pytest.fixture
def endings(tiny_model):
    """Rows end at different steps: a third of the vocabulary ends a text."""
    config = tiny_model._module.generation_config
    before, config.eos_token_id = config.eos_token_id, list(range(1, 600, 3))
    yield config.eos_token_id
    config.eos_token_id = before


def test_greedy_equals_transformers_one_at_a_time(tiny_model):
    found = mn.generate(tiny_model, PROMPTS, max_new_tokens=10)
    expected = one_at_a_time(tiny_model.tokenizer, tiny_model._module, PROMPTS, max_new_tokens=10)
    assert [text for (text,) in found] == expected


@pytest.mark.parametrize("name", [*KINDS, *LEFT_TO_TRANSFORMERS])
def test_greedy_equals_transformers_for_every_architecture(
    name, tiny_folder, tmp_path, monkeypatch
):
    """In small batches that rows leave and join, past the window of sliding attention."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    options = ARCHITECTURES[name][1] if name in ARCHITECTURES else MAMBA
    ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **ids, **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = AutoModelForCausalLM.from_config(config).eval()
        for parameter in module.parameters():
            parameter.data *= 4 if parameter.ndim > 1 else 1
    module.generation_config.eos_token_id = list(range(1, len(tokenizer), 12))
    module.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = mn.load_model(str(tmp_path / "model"), dtype="float32")
    assert decoding._keeps_plain_cache(model._module) == (name not in LEFT_TO_TRANSFORMERS)
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 3)
    found = mn.generate(model, PROMPTS, max_new_tokens=24)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").float().eval()
    expected = one_at_a_time(model.tokenizer, plain, PROMPTS, max_new_tokens=24)
    assert [text for (text,) in found] == expected
    assert len({len(text) for text in expected}) > 2  # they did end at different steps


def test_rows_that_have_ended_are_not_decoded_further(tiny_model, endings, monkeypatch):
    """The model reads every prompt once, and every token once, but for those that end a text."""
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 8)
    read = []
    module = tiny_model._module
    watch = module.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    queue = [(i, sample) for i in range(len(PROMPTS)) for sample in range(4)]
    encoded = dict(enumerate(tiny_model.tokenizer(PROMPTS)["input_ids"]))
    sampler = decoding.Sampler(1.0, 0)
    try:
        rows = dict(decoding.decode(tiny_model, encoded, queue, 30, sampler, 8))
    finally:
        watch.remove()
    lengths = [len(tokens) for tokens in rows.values()]
    assert sorted(rows) == queue
    assert len(set(lengths)) > 4
    assert sum(n for n, width in read if width == 1) == sum(lengths) - len(lengths)
    assert sum(n for n, width in read if width > 1) < len(queue)  # samples share their prompt
    for tokens in rows.values():
        assert not set(tokens[:-1]) & set(endings)
        assert tokens[-1] in endings or len(tokens) == 30


def test_messages_go_through_the_template(tiny_model):
    chat = [{"role": "user", "content": "2+2?"}]
    text = tiny_model.tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    )
    raw = text.removeprefix("<s>")
    by_hand = "<s>" + raw
    ids = tiny_model.tokenizer(by_hand, add_special_tokens=False)["input_ids"]
    assert (
        ids
        == tiny_model.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    )
    assert mn.generate(tiny_model, [chat], max_new_tokens=8) == mn.generate(
        tiny_model, [by_hand], max_new_tokens=8
    )


def test_samples_depend_on_seed_and_not_on_the_batch(tiny_model, endings, monkeypatch):
    options = {"n": 3, "temperature": 1.0, "max_new_tokens": 8}
    together = mn.generate(tiny_model, PROMPTS, **options)
    for rows in (1, 2, 5):
        monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", rows)
        assert mn.generate(tiny_model, PROMPTS, **options) == together
    assert mn.generate(tiny_model, PROMPTS, seed=1, **options) != together
    assert len(set(together[0])) > 1


def test_samples_are_the_same_when_left_to_transformers(tiny_model, endings, monkeypatch):
    options = {"n": 2, "temperature": 1.0, "max_new_tokens": 8}
    ours = mn.generate(tiny_model, PROMPTS, **options)
    monkeypatch.setattr(decoding, "_keeps_plain_cache", lambda module: False)
    assert mn.generate(tiny_model, PROMPTS, **options) == ours


def test_samples_follow_the_models_distribution(tiny_model):
    """First sampled tokens against softmax, by a chi-squared distance on the likely tokens."""
    prompt, n = "2 + 2 is", 1500
    tokenizer, module = tiny_model.tokenizer, tiny_model._module
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        expected = (module(ids).logits[0, -1] / 0.7).softmax(-1)
    texts = mn.generate(tiny_model, [prompt], n=n, temperature=0.7, max_new_tokens=1)[0]
    likely = expected.topk(5).indices.tolist()
    for token in likely:
        text = tokenizer.decode([token], skip_special_tokens=True)
        same = [t for t in range(len(expected)) if tokenizer.decode([t]) == text]
        p = expected[same].sum().item()
        assert texts.count(text) / n == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)


@pytest.mark.parametrize("phases", [("prompt",), ("generation",), ("prompt", "generation")])
def test_steering_acts_on_its_phases_in_batches_as_alone(tiny_model, phases, monkeypatch):
    """Prompts that join later are prompts still: transformers alone is the judge."""
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 3)
    push = torch.linspace(-20, 20, 32).numpy()
    vector = mn.SteeringVector({1: push})
    options = {"max_new_tokens": 12}
    with vector.apply(tiny_model, phases):
        expected = one_at_a_time(tiny_model.tokenizer, tiny_model._module, PROMPTS, **options)
    steering = vector.apply(tiny_model, phases)
    assert [text for (text,) in mn.generate(tiny_model, PROMPTS, steering, **options)] == expected
    assert [text for (text,) in mn.generate(tiny_model, PROMPTS, **options)] != expected


def test_an_interrupt_keeps_what_has_ended_and_leaves_the_model_as_it_was(tiny_model, endings):
    options = {"n": 2, "temperature": 1.0, "max_new_tokens": 12}
    expected = mn.generate(tiny_model, PROMPTS, **options)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = tiny_model._module(ids).logits
    done = {}

    def stop_at_the_fifth(prompt, sample, text):
        done[prompt, sample] = text
        if len(done) == 5:
            raise KeyboardInterrupt

    steering = mn.SteeringVector({1: [0.0] * 32})
    with pytest.raises(KeyboardInterrupt):
        mn.generate(tiny_model, PROMPTS, steering, on_text=stop_at_the_fifth, **options)
    assert len(done) == 5
    assert all(expected[prompt][sample] == text for (prompt, sample), text in done.items())
    with torch.no_grad():
        assert torch.equal(tiny_model._module(ids).logits, before)
    assert mn.generate(tiny_model, PROMPTS, **options) == expected


def test_some_samples_alone_are_those_of_the_whole(tiny_model):
    options = {"temperature": 1.0, "max_new_tokens": 6}
    whole = mn.generate(tiny_model, PROMPTS, n=3, **options)
    found = {}
    jobs = [(4, 2), (0, 1), (5, 0)]
    complete(tiny_model, PROMPTS, jobs, lambda i, s, text: found.update({(i, s): text}), **options)
    assert found == {(i, s): whole[i][s] for i, s in jobs}


def test_greedy_completions_of_one_prompt_are_equal(tiny_model):
    told = []
    (texts,) = mn.generate(
        tiny_model, ["a b"], n=3, max_new_tokens=5, on_text=lambda *one: told.append(one)
    )
    assert len(set(texts)) == 1
    assert sorted(told) == [(0, sample, texts[0]) for sample in range(3)]


def test_a_penalty_of_the_models_own_configuration_is_kept(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(folder)
    plain.generation_config.repetition_penalty = 1.8
    plain.save_pretrained(folder)
    model = mn.load_model(str(folder), dtype="float32")
    prompt = PROMPTS[:1]
    (found,) = mn.generate(model, prompt, max_new_tokens=20)
    assert found == one_at_a_time(model.tokenizer, plain, prompt, max_new_tokens=20)
    plain.generation_config.repetition_penalty = None
    assert found != one_at_a_time(model.tokenizer, plain, prompt, max_new_tokens=20)


@pytest.fixture
def configured(tiny_model):
    """Settings of the model's own generation configuration, for one test."""
    config, before = tiny_model._module.generation_config, {}

    def configure(**settings):
        for name, value in settings.items():
            before.setdefault(name, getattr(config, name, None))
            setattr(config, name, value)

    yield configure
    configure(**before)


def test_beams_of_the_models_own_configuration_search_and_do_not_sample(tiny_model, configured):
    options = {"n": 2, "max_new_tokens": 8}
    samples = mn.generate(tiny_model, PROMPTS, temperature=1.0, **options)
    greedy = mn.generate(tiny_model, PROMPTS, **options)
    configured(num_beams=3)
    assert mn.generate(tiny_model, PROMPTS, temperature=1.0, **options) == samples
    found = [text for text, _ in mn.generate(tiny_model, PROMPTS, **options)]
    plain = tiny_model._module
    assert found == one_at_a_time(tiny_model.tokenizer, plain, PROMPTS, max_new_tokens=8)
    assert found != [text for text, _ in greedy]


def test_stop_strings_of_the_models_own_configuration_end_texts(tiny_model, configured):
    tokenizer, module = tiny_model.tokenizer, tiny_model._module
    options = {"temperature": 1.0, "max_new_tokens": 12}
    whole = [text for (text,) in mn.generate(tiny_model, PROMPTS, **options)]
    greedy = one_at_a_time(tokenizer, module, PROMPTS, max_new_tokens=12)
    configured(stop_strings=["e"])
    stopped = one_at_a_time(tokenizer, module, PROMPTS, max_new_tokens=12)
    assert stopped != greedy
    found = mn.generate(tiny_model, PROMPTS, max_new_tokens=12)
    assert [text for (text,) in found] == stopped
    samples = [text for (text,) in mn.generate(tiny_model, PROMPTS, **options)]
    assert samples != whole
    assert all(longer.startswith(text) for text, longer in zip(samples, whole, strict=True))


def test_wrong_prompts_say_so(tiny_model):
    with pytest.raises(mn.InputError, match="prompt 1 is empty"):
        mn.generate(tiny_model, ["a", ""])
    with pytest.raises(mn.InputError, match="do not fit the model's context of 1024"):
        mn.generate(tiny_model, ["a b c " * 900])
    with pytest.raises(mn.InputError, match="at least 1"):
        mn.generate(tiny_model, ["a"], n=0)
    with pytest.raises(mn.InputError, match="at least 1"):
        mn.generate(tiny_model, ["a"], max_new_tokens=0)
    assert mn.generate(tiny_model, []) == []


MESSAGE = {"role": "user", "content": "2+2?"}


@pytest.mark.parametrize(
    ("prompts", "options", "said"),
    [
        ("ab", {}, "takes a list of prompts; put this one in a list"),
        ([MESSAGE], {}, "takes a list of prompts; put this one chat in a list"),
        ([[]], {}, "prompt 0 is empty"),
        ([[MESSAGE | {"content": None}]], {}, "prompt 0 is neither text nor a list of messages"),
        ([["a"]], {}, "prompt 0 is neither text nor a list of messages"),
        (["a", 5], {}, "prompt 1 is neither text nor a list of messages"),
        (["a", "x\ud800"], {}, "prompt 1: character 1 is half of a pair"),
        ([[MESSAGE | {"content": "\ud800"}]], {}, "prompt 0: character 0 is half of a pair"),
        (["a"], {"n": 1.5}, "n must be a whole number of at least 1, not 1.5"),
        (["a"], {"n": True}, "n must be a whole number of at least 1, not True"),
        (["a"], {"max_new_tokens": "8"}, "max_new_tokens must be a whole number"),
        (["a"], {"seed": 0.5}, "seed must be a whole number of at least 0, not 0.5"),
        (["a"], {"temperature": float("nan")}, "temperature must be a number of at least 0"),
        (["a"], {"temperature": float("inf")}, "temperature must be a number of at least 0"),
        (["a"], {"temperature": None}, "temperature must be a number of at least 0, not None"),
    ],
)
def test_wrong_arguments_say_so_in_one_line(prompts, options, said, tiny_model):
    with pytest.raises(mn.InputError, match=said) as caught:
        mn.generate(tiny_model, prompts, **options)
    assert "\n" not in str(caught.value)


def test_the_embedded_model_says_in_a_batch_what_it_says_alone(embedded, monkeypatch):
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 2)
    prompts = ["The capital of France is", "2 + 2 =", "Once upon a time, in a town by the sea,"]
    found = mn.generate(embedded, prompts, max_new_tokens=10)
    expected = one_at_a_time(embedded.tokenizer, embedded._module, prompts, max_new_tokens=10)
    assert [text for (text,) in found] == expected

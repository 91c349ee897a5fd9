import pytest
import torch

import mnskills_viz as mn


def test_greedy_equals_transformers_one_at_a_time(tiny_model):
    prompts = ["2 + 2 is", "The largest of 3, 9, 4 is", "a"]
    found = mn.generate(tiny_model, prompts, max_new_tokens=10)
    tokenizer, module = tiny_model.tokenizer, tiny_model._module
    for prompt, (text,) in zip(prompts, found, strict=True):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        out = module.generate(ids, max_new_tokens=10, do_sample=False)
        assert text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


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


def test_samples_depend_on_seed_and_not_on_the_batch(tiny_model, monkeypatch):
    prompts = ["2 + 2 is", "The largest", "One two three", "x"]
    options = {"n": 3, "temperature": 1.0, "max_new_tokens": 8}
    together = mn.generate(tiny_model, prompts, **options)
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 2)
    assert mn.generate(tiny_model, prompts, **options) == together
    assert mn.generate(tiny_model, prompts, seed=1, **options) != together
    assert len(set(together[0])) > 1


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


def test_wrong_prompts_say_so(tiny_model):
    with pytest.raises(mn.InputError, match="prompt 1 is empty"):
        mn.generate(tiny_model, ["a", ""])
    with pytest.raises(mn.InputError, match="do not fit the model's context of 1024"):
        mn.generate(tiny_model, ["a b c " * 900])
    with pytest.raises(mn.InputError, match="at least 1"):
        mn.generate(tiny_model, ["a"], n=0)
    assert mn.generate(tiny_model, []) == []

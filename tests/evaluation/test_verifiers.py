import importlib
import time

import pytest

import mnskills_viz as mn
from mnskills_viz.corpus import Example
from mnskills_viz.evaluation import grading, verifiers
from mnskills_viz.evaluation.answers import final_answer
from mnskills_viz.evaluation.verifiers import require_verifier, verifier_of, verify


def example(answer, response="", **meta):
    return Example("one", "What is it?", response, answer, meta=meta)


# ------------------------------------------------------------------------------- mathematics

STATES_5 = [
    "5",
    "5.",
    r"\boxed{5}",
    r"so $\boxed{5}$, as claimed",
    "2 * 2 = 4, and one more.\n#### 5",
    "The answer is 5.",
    "The final answer is $5$.",
    r"The answer is \(5\)",
    "**Answer:** 5",
    "**Answer: 5**",
    "Answer: 5\n\nI hope that helps!",
    "Answer: 6\nAnswer: 5",
    "x = 5",
    "3 + 2 = 5",
    "<answer> 5 </answer>",
    r"The answer is \$5.",
    r"The answer is \boxed{5.0}",
    r"\boxed{\frac{10}{2}}",
    r"\boxed{5 \text{ cm}}",
    r"\boxed{5 \text{ square feet}}",
    "\\boxed{5}\n\nNo further steps are needed. Note that 6 is not a solution.",
    "<answer>5</answer>\nThis is not a prime problem.",
    "Thus\n\\[ \\boxed{5} \\]",
]
HOLDS_5_AMONG_OTHER_TEXT = [
    "",
    "   \n ",
    "15",
    "50",
    "0.5",
    "-5",
    "5 or 6",
    "5, 6",
    "5 6",
    "1 2 3 4 5",
    "not 5",
    "maybe 5",
    "The answer is 5 or 6",
    "The answer is not 5",
    "The answer is either 5 or 7.",
    "The answer is 5. No, it is 6.",
    "Answer: 5\nAnswer: 6",
    "Answer: 5, but it could be 6",
    "Answer: 5 (not 6)",
    "Answer: $5$ or $6$",
    "Answer: $5$, $6$",
    "Answer:",
    "So 2 + 3 = 5.\nThe answer is 6",
    "It is 5 since 2 + 3 is 5.",
    "The answer lies between 5 and 6",
    r"\boxed{5} or \boxed{6}",
    r"\boxed{6} or \boxed{5}",
    r"\boxed{5}, \boxed{6}",
    r"\boxed{5} or 6",
    r"\boxed{5}, or is it 6?",
    r"\boxed{5, 6}",
    r"\boxed{5 \text{ or } 6}",
    "\\boxed{5}\nWait. Answer: 6",
    r"\boxed{5",
    r"\boxed{}",
    "Answer: 5} or {6",
    "6 = 5",
    "x + 1 = 5",
    "x = 5 or x = 6",
    r"x \neq 5",
    "x > 5",
    "5!",
    "#### 5 or 6",
    "5" * 400,
    r"\boxed{5 \text{ is wrong}}",
    r"\boxed{5 \text{ or six}}",
    r"\boxed{5 \mathrm{ or\ six}}",
    r"5 \approx 6",
    r"\boxed{6 \approx 5}",
    "5_6",
    r"5 \ldots",
    "500%",
    "5%",
    r"\boxed{5\%}",
    "5 percent",
    r"\boxed{5^\circ}",
    r"\boxed{5^{\circ}}",
    "5'",
    "\\boxed{5}\nNo, 6.",
    r"\boxed{5} No, that is wrong: 6",
    r"\boxed{5} \text{ is wrong}",
    r"$\boxed{5}$. Wait, that is for x. It is 6.",
    "Answer: 5\nActually the correct result is 6",
    "#### 5\n\nOops, 6",
    "<answer>5</answer>\nactually 6",
    "<answer>5</answer> This is not correct.",
]


@pytest.mark.parametrize("text", STATES_5)
def test_what_is_stated_last_is_the_answer(text):
    assert verify("math-verify", example("5"), text) == 1.0


@pytest.mark.parametrize("text", HOLDS_5_AMONG_OTHER_TEXT)
def test_an_answer_among_other_text_is_not_right(text):
    assert verify("math-verify", example("5"), text) == 0.0


@pytest.mark.parametrize(
    ("gold", "given"),
    [
        (r"\frac{1}{2}", r"\frac12"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac{1}{2}", r"\frac{1}{3}"),
        (r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2"),
        ("x^2 + 1", "1 + x^2"),
        ("x^2 + 1", "y^2 + 1"),
        ("1,000", "1000"),
        ("(1, 2)", "(1, 2)"),
        ("(1, 2)", "(2, 1)"),
        (r"\{1, 2\}", r"\{2, 1\}"),
        ("72", "72.00"),
        ("72", "73"),
        ("3.14", r"\pi"),
        ("2x", "x + x"),
        (r"10\%", "0.1"),
        (r"10\%", r"10\%"),
        (r"30^\circ", r"30^\circ"),
        (r"30^\circ", "30"),
        ("101_2", "101_2"),
    ],
)
def test_boxed_answers_are_judged_as_math_verify_does(gold, given):
    from math_verify import parse
    from math_verify import verify as library

    text = rf"We find $\boxed{{{given}}}$."
    expected = library(parse(rf"$\boxed{{{gold}}}$"), parse(text))
    assert verify("math-verify", example(gold), text) == float(expected)


def test_algebra_works_in_threads_too():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        texts = [r"\boxed{\frac{2}{4}}", r"\boxed{\frac{2}{5}}"]
        found = list(pool.map(lambda text: verify("math-verify", example("0.5"), text), texts))
    assert found == [1.0, 0.0]


def test_the_final_answer_of_a_long_text_is_at_its_end():
    assert final_answer("Answer: 6\n" + "x " * 50_000 + "\nAnswer: 7") == "7"
    assert final_answer(r"\boxed{\frac{1}{\sqrt{2}}}") == r"\frac{1}{\sqrt{2}}"
    assert final_answer("\\boxed{1}\n\\boxed{2}") == "2"
    assert final_answer("nothing\nof note") == "of note"


# ------------------------------------------------------------------------- the demo corpus


def test_every_reference_of_the_demo_corpus_is_right_and_no_other_answer_is():
    rows = mn.load_corpus("demo", limit=600)
    for one, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        assert verify("auto", one, one.response) == 1.0
        assert verifier_of(one) == one.meta["verifier"]
        if one.answer.lower() != other.answer.lower():
            wrong = f"{one.response}\nAnswer: {other.answer}"
            alike = verify("auto", other, f"Answer: {one.answer}") == 1.0  # 0.5 and 1/2
            assert alike or verify("auto", one, wrong) == 0.0
        assert verify("auto", one, one.answer) == 0.0  # without the mark there is no answer
        assert verify("auto", one, one.response.replace("Answer:", "Result:")) == 0.0


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Answer: 1/2", True),
        ("Answer: 0.50", True),
        ("Answer: 0.5.", True),
        ("Answer:0.5", True),
        ("Answer: 3\nAnswer: 0.5", True),
        ("Answer: 0.5\nAnswer: 3", False),
        ("Answer: 0.5 m", False),
        ("Answer: $0.5", False),
        ("Answer: 0.5\nThat is it.", False),
        ("answer: 0.5", False),
        ("Answer: 1/0", False),
        ("Answer: 5e-1", False),
        ("Answer: ٥", False),
        ("Answer:", False),
        ("0.5", False),
        ("Answer: " + "1" * 100_000, False),
    ],
)
def test_numbers_are_exact_rationals(text, passes):
    assert verify("number", example("0.5", verifier="number"), text) == float(passes)


def test_exact_answers_are_words_upper_and_lower_case_alike():
    month = example("May", verifier="exact")
    assert verify("auto", month, "Month 5 is May.\nAnswer: may.") == 1.0
    assert verify("auto", month, "Answer: Maybe") == 0.0
    assert verify("auto", month, "Answer: May or June") == 0.0
    # A corpus that knows no mark takes a text as a whole.
    assert verify("exact", example("Paris"), " paris. ") == 1.0
    assert verify("exact", example("Paris"), "It is Paris.") == 0.0
    assert verify("exact", example("Paris", response="Answer: Paris"), "Paris") == 0.0


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("48 + 24 = 72\n#### 72", True),
        ("#### $72.00", True),
        ("#### 1,072", False),
        (r"\boxed{72}", True),
        ("72", False),
        ("#### 72 apples or 73", False),
        ("#### 72\n#### 73", False),
    ],
)
def test_gsm8k_answers_stand_after_their_mark(text, passes):
    assert verify("gsm8k", example("72"), text) == float(passes)
    assert verify("gsm8k", example("1072"), "#### 1,072") == 1.0


def test_a_pattern_names_the_answer():
    one = example("north")
    assert verify(r"regex:It is (\w+)", one, "It is south? It is North") == 1.0
    assert verify(r"regex:It is (\w+)", one, "It is north? It is south") == 0.0
    assert verify(r"regex:^\w+$", one, "so\nnorth") == 1.0
    assert verify(r"regex:It is (\w+)", one, "north") == 0.0


def test_a_function_of_ones_own_judges():
    assert verify(lambda e, text: text == e.answer * 2, example("ab"), "abab") == 1.0
    assert verify(lambda e, text: 0.25, example("ab"), "abab") == 0.25


@pytest.mark.parametrize("said", [None, "right", float("nan"), [1]])
def test_a_function_that_says_no_number_is_told_so(said):
    with pytest.raises(mn.InputError, match="example one: the verifier function said") as caught:
        verify(lambda e, text: said, example("ab"), "abab")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------- reasoning-gym


def gym_example(name, seed=3):
    import reasoning_gym

    entry = reasoning_gym.create_dataset(name, size=1, seed=seed)[0]
    meta = {"metadata": entry["metadata"]}
    return Example(name, entry["question"], "", entry["answer"], meta=meta), entry


GYM = ["leg_counting", "gsm_symbolic", "knights_knaves", "game_of_life_halting", "letter_jumble"]
GYM += ["chain_sum", "spell_backward", "countdown", "number_sorting"]


@pytest.mark.parametrize("name", GYM)
def test_reasoning_gym_answers_are_extracted_and_must_be_all_of_the_text(name):
    """Several of its scorers give full marks to a text that holds the answer somewhere."""
    import reasoning_gym

    one, entry = gym_example(name)
    scorer = reasoning_gym.get_score_answer_fn(name)
    assert verifier_of(one) == "reasoning-gym"
    for text in (one.answer, f"<answer>{one.answer}</answer>", f"So.\nAnswer: {one.answer}"):
        assert verify("auto", one, text) == scorer(one.answer, entry) == 1.0
    for text in (f"{one.answer} or something else", f"it is not {one.answer} at all", "", "zzz"):
        assert verify("auto", one, text) < 1.0
        assert verify("auto", one, f"<answer>{text}</answer>") < 1.0
    for taken_back in (" No: <answer>zzz</answer>", "\nActually it is zzz.", " Wait, no."):
        assert verify("auto", one, f"<answer>{one.answer}</answer>{taken_back}") < 1.0


# ------------------------------------------------------------------------- choosing, errors


@pytest.mark.parametrize(
    ("answer", "meta", "expected"),
    [
        ("72", {}, "math-verify"),
        ("-3,200.5", {}, "math-verify"),
        (r"\frac{1}{2}", {}, "math-verify"),
        ("$x$", {}, "math-verify"),
        ("Paris", {}, "exact"),
        ("12, 28, 66", {}, "exact"),
        ("08:25", {}, "exact"),
        ("72", {"verifier": "number"}, "number"),
        ("72", {"verifier": "a person"}, "math-verify"),
        (None, {"source_dataset": "leg_counting"}, "reasoning-gym"),
        (None, {"metadata": {"source_dataset": "leg_counting"}}, "reasoning-gym"),
    ],
)
def test_auto_goes_by_the_example(answer, meta, expected):
    assert verifier_of(example(answer, **meta)) == expected


@pytest.mark.parametrize(
    ("verifier", "one", "said"),
    [
        ("auto", example(None), "1 examples have no answer to verify by: one"),
        ("exact", example("  "), "have no answer"),
        ("guess", example("5"), "unknown verifier 'guess'"),
        ("regex:(", example("5"), "not a pattern"),
        (3, example("5"), "a verifier is a name or a function"),
        ("reasoning-gym", example("5"), "name no reasoning-gym data set"),
    ],
)
def test_what_cannot_be_judged_is_said_beforehand_in_one_line(verifier, one, said):
    with pytest.raises(mn.InputError, match=said) as caught:
        require_verifier(verifier, [one])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["math-verify", "reasoning-gym"])
def test_a_missing_package_names_the_extra(name, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(module)

    verifiers._package.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)
    meta = {"source_dataset": "leg_counting"} if name == "reasoning-gym" else {}
    with pytest.raises(mn.InputError, match=r"pip install 'mnskills_viz\[verify\]'"):
        require_verifier(name, [example("5", **meta)])
    verifiers._package.cache_clear()


def test_a_gold_that_is_no_number_is_said():
    with pytest.raises(mn.InputError, match="the answer 'five' is not a number"):
        verify("number", example("five"), "Answer: 5")
    with pytest.raises(mn.InputError, match="has no data set 'nothing'"):
        verify("reasoning-gym", example("5", source_dataset="nothing"), "5")


# ------------------------------------------------------------------------- many, and sly ones


def test_many_texts_are_judged_as_one_by_one():
    one = example("5")
    texts = [*STATES_5, *HOLDS_5_AMONG_OTHER_TEXT[:20], *STATES_5[:3]]
    found = grading.passes("math-verify", [(one, text) for text in texts])
    assert found == [True] * len(STATES_5) + [False] * 20 + [True] * 3


def test_a_text_that_takes_for_ever_is_wrong_and_holds_nothing_up(monkeypatch):
    monkeypatch.setattr(grading, "SECONDS_A_TEXT", 2.0)
    one = example("aa")
    texts = ["aa", "a" * 64 + "b", "aa"]
    began = time.monotonic()
    with pytest.warns(UserWarning, match="1 of 2 texts took their verifier longer than 2 s"):
        found = grading.passes(r"regex:^(a+)+$", [(one, text) for text in texts])
    assert found == [True, False, True]
    assert time.monotonic() - began < 60  # alone, the pattern would take a thousand years


def test_what_a_model_writes_is_not_let_loose(tmp_path):
    """A scorer that evaluates the answer as an expression."""
    one, _ = gym_example("countdown")
    target = tmp_path / "written"
    texts = [
        f"open({str(target)!r}, 'w')",
        f"__import__('os').system('touch {target}')",
        f"__import__('subprocess').run(['touch', {str(target)!r}])",
        "exit()",
        one.answer,
    ]
    found = grading.passes("auto", [(one, text) for text in texts])
    assert found == [False, False, False, False, True]
    assert not target.exists()


def test_wrong_examples_are_said_from_the_other_process():
    with pytest.raises(mn.InputError, match="has no data set 'nothing'"):
        grading.passes("auto", [(example("5", source_dataset="nothing"), "5")])

"""The demo corpus keeps its promises.

Answers and steps are worked out anew here, from the text of each row alone, with nothing of the
build script.
"""

import ast
import calendar
import itertools
import json
import operator
import os
import re
import runpy
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
CORPUS, SCRIPT, CARD = DATA / "demo.jsonl", DATA / "build_demo_corpus.py", DATA / "README.md"
SIZES = {"pool": 5000, "probe": 500, "test": 500}
FIELDS = {
    "id": str, "prompt": str, "response": str, "answer": str, "category": str,
    "family": str, "difficulty": int, "verifier": str, "split": str,
    "source": str, "license": str,
}  # fmt: skip

Row = dict[str, Any]
Solved = tuple[object, object]  # the answer, and the parameters that make it this problem


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def by_family(rows: list[Row]) -> dict[str, list[Row]]:
    families = defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    return families


def strict_answer(response: str) -> str:
    return response.rpartition("Answer:")[2].strip().removesuffix(".")


def verify(verifier: str, given: str, expected: object) -> bool:
    """The two verifiers of the data card."""
    if verifier == "exact":
        return given.lower() == str(expected).lower()
    return Fraction(given) == Fraction(str(expected))


# --------------------------------------------------------------------------------------------------
# Reading prompts

OPERATORS: dict[type, Callable[..., Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def value(expression: str) -> Fraction:
    """The exact value of an arithmetic expression."""

    def of(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=number):
                return Fraction(str(number))
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](of(left), of(right))
            case ast.UnaryOp(op=op, operand=operand):
                return OPERATORS[type(op)](of(operand))
        raise ValueError(ast.dump(node))

    return of(ast.parse(expression.strip(), mode="eval").body)


def expression_in(prompt: str) -> str:
    return re.search(r"[\d(][\d\s()*+-]*[\d)]", prompt)[0]


def numbers(prompt: str) -> list[Fraction]:
    return [Fraction(n) for n in re.findall(r"-?\d+(?:\.\d+)?", prompt)]


def quoted(prompt: str) -> str:
    return re.search(r'"([a-z ]+)"', prompt)[1]


def word_lists(prompt: str) -> list[list[str]]:
    return [found.split(", ") for found in re.findall(r"\w+(?:, \w+)+", prompt)]


ENGLISH = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen
"""
UP_TO_NINETEEN = {word: n for n, word in enumerate(ENGLISH.split(), start=1)}
ENGLISH_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
TENS = {word: 10 * n for n, word in enumerate(ENGLISH_TENS.split(), start=1)}
COMPOUND = {
    f"{ten}-{one}": TENS[ten] + n for ten in TENS for one, n in UP_TO_NINETEEN.items() if n < 10
}
IN_WORDS = UP_TO_NINETEEN | TENS | COMPOUND


ROMAN = {
    1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X",
    9: "IX", 5: "V", 4: "IV", 1: "I",
}  # fmt: skip


def to_roman(n: int) -> str:
    text = ""
    for worth, numeral in ROMAN.items():
        while n >= worth:
            text, n = text + numeral, n - worth
    return text


def in_base_2(n: int) -> str:
    return in_base_2(n // 2) + str(n % 2) if n > 1 else str(n)


# --------------------------------------------------------------------------------------------------
# A solver a family

SOLVERS: dict[str, Callable[[str], Solved]] = {}


def solves(family: str) -> Callable[[Callable[[str], Solved]], Callable[[str], Solved]]:
    def register(solver: Callable[[str], Solved]) -> Callable[[str], Solved]:
        SOLVERS[family] = solver
        return solver

    return register


@solves("addition")
def _(prompt: str) -> Solved:
    a, b = sorted(numbers(prompt))
    return a + b, (a, b)


@solves("subtraction")
def _(prompt: str) -> Solved:
    a, b = sorted(numbers(prompt))
    return b - a, (a, b)


@solves("products-in-words")
def _(prompt: str) -> Solved:
    a, b = sorted(IN_WORDS[w] for w in re.findall(r"[a-z-]+", prompt) if w in IN_WORDS)
    return a * b, (a, b)


@solves("order-of-operations")
def _(prompt: str) -> Solved:
    return value(expression_in(prompt)), expression_in(prompt)


@solves("adding-fractions")
def _(prompt: str) -> Solved:
    p, q = sorted(Fraction(f) for f in re.findall(r"\d+/\d+", prompt))
    return p + q, (p, q)


@solves("percentages")
def _(prompt: str) -> Solved:
    percent = Fraction(re.search(r"(\d+)(?:%| percent)", prompt)[1])
    [amount] = numbers(re.sub(r"\d+(?:%| percent)", "", prompt))
    if "price" not in prompt:
        return percent / 100 * amount, (percent, amount)
    sign = 1 if "rises" in prompt else -1
    return amount * (1 + sign * percent / 100), (percent, amount, sign)


@solves("parity")
def _(prompt: str) -> Solved:
    expression = expression_in(prompt)
    return ("even", "odd")[int(value(expression) % 2)], sorted(expression.split())


@solves("largest-of-four")
def _(prompt: str) -> Solved:
    assert len(set(numbers(prompt))) == 4
    return float(max(numbers(prompt))), sorted(numbers(prompt))


@solves("remainder")
def _(prompt: str) -> Solved:
    n, divisor = numbers(prompt)
    return n % divisor, (n, divisor)


@solves("digit-sum")
def _(prompt: str) -> Solved:
    [digits] = re.findall(r"\d+", prompt)
    return sum(map(int, digits)), digits


@solves("binary")
def _(prompt: str) -> Solved:
    n = int(max(numbers(prompt)))
    return in_base_2(n), n


@solves("roman-numerals")
def _(prompt: str) -> Solved:
    [n] = numbers(prompt)
    return to_roman(int(n)), n


@solves("counting-letters")
def _(prompt: str) -> Solved:
    letter = re.search(r"letter (\w)\b", prompt)[1]
    return quoted(prompt).count(letter), (letter, sorted(quoted(prompt).split()))


@solves("counting-vowels")
def _(prompt: str) -> Solved:
    return len(re.findall("[aeiou]", quoted(prompt))), sorted(quoted(prompt).split())


@solves("last-letters")
def _(prompt: str) -> Solved:
    return re.sub(r"\w*(\w)\b ?", r"\1", quoted(prompt)), quoted(prompt)


@solves("reversing")
def _(prompt: str) -> Solved:
    return "".join(reversed(quoted(prompt))), quoted(prompt)


@solves("caesar-shift")
def _(prompt: str) -> Solved:
    [places] = map(int, numbers(prompt))
    moved = ((ord(c) - 97 + places) % 26 + 97 for c in quoted(prompt))
    return "".join(map(chr, moved)), (quoted(prompt), places)


@solves("palindromes")
def _(prompt: str) -> Solved:
    [code] = re.findall(r"\b[A-Z0-9]{3,}\b", prompt)
    return ("yes" if code == code[::-1] else "no"), sorted((code, code[::-1]))


@solves("anagrams")
def _(prompt: str) -> Solved:
    letters = re.search(r"letters ((?:[a-z] )+[a-z])(?![a-z])", prompt)[1].split()
    same = Counter(letters) == Counter(quoted(prompt))
    return ("yes" if same else "no"), (quoted(prompt), sorted(letters))


@solves("sorting-four")
def _(prompt: str) -> Solved:
    return ", ".join(map(str, sorted(numbers(prompt)))), sorted(numbers(prompt))


@solves("next-term")
def _(prompt: str) -> Solved:
    a, b, c, d = numbers(prompt)
    if b / a == c / b == d / c:
        return d * d / c, (a, b, c, d)
    assert (d - c) - (c - b) == (c - b) - (b - a)  # a polynomial of degree 2 at most
    return 3 * d - 3 * c + b, (a, b, c, d)


@solves("in-both-lists")
def _(prompt: str) -> Solved:
    a, b = word_lists(prompt)
    common = [word for word in a if word in b]
    assert common == [word for word in b if word in a], "the order of the answer is open"
    return ", ".join(common), sorted((sorted(a), sorted(b)))


@solves("mean")
def _(prompt: str) -> Solved:
    return sum(numbers(prompt)) / len(numbers(prompt)), sorted(numbers(prompt))


LESS = {"shorter": "taller", "younger": "older", "slower": "faster", "lighter": "heavier"}
MOST = {"tallest": "taller", "oldest": "older", "fastest": "faster", "heaviest": "heavier"}
LEAST = {"shortest": "taller", "youngest": "older", "slowest": "faster", "lightest": "heavier"}


def ranking(prompt: str) -> list[str]:
    """The one order of the people that agrees with all clues, the greatest first."""
    clues = re.findall(r"(\w+) is (\w+) than (\w+)", prompt)
    pairs = [(b, a) if word in LESS else (a, b) for a, word, b in clues]
    people = sorted({person for pair in pairs for person in pair})
    assert len({LESS.get(word, word) for _, word, _ in clues}) == 1
    [only] = [
        order
        for order in itertools.permutations(people)
        if all(order.index(a) < order.index(b) for a, b in pairs)
    ]
    return list(only)


@solves("comparing-people")
def _(prompt: str) -> Solved:
    second, wanted = re.search(r"is the (second )?(\w+)\?", prompt).groups()
    place = (1 if second else 0) if wanted in MOST else -1
    return ranking(prompt)[place], (ranking(prompt), second, wanted)


@solves("odd-one-out")
def _(prompt: str) -> Solved:
    [items] = word_lists(prompt)
    kinds = Counter(kind_of()[item] for item in items)
    [odd] = [item for item in items if kinds[kind_of()[item]] == 1]
    assert len(kinds) == 2
    return odd, sorted(items)


def kind_of() -> dict[str, str]:
    """What the corpus says of each word: it must say the same every time."""
    if not KIND_OF:
        for line in CORPUS.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["family"] == "odd-one-out":
                for word, kind in re.findall(r"(\w+): (\w+)\n", row["response"]):
                    assert KIND_OF.setdefault(word, kind) == kind
    return KIND_OF


KIND_OF: dict[str, str] = {}


@solves("turning")
def _(prompt: str) -> Solved:
    east, north = 1 + 0j, 1j
    compass = {"east": east, "north": north, "west": -east, "south": -north}
    start = re.search("|".join(compass), prompt)[0]
    turns = re.findall(r"\b(?:left|right|around)\b", prompt)
    facing = compass[start]
    for turn in turns:
        facing *= {"left": 1j, "right": -1j, "around": -1}[turn]
    return next(name for name in compass if compass[name] == facing), (start, turns)


@solves("months-later")
def _(prompt: str) -> Solved:
    k, where, name = re.search(r"(\d+) months? (after|before) (\w+)", prompt).groups()
    month = list(calendar.month_name).index(name)
    end = month + int(k) if where == "after" else month - int(k)
    return calendar.month_name[(end - 1) % 12 + 1], (month, k, where)


@solves("weekdays")
def _(prompt: str) -> Solved:
    day = re.search("|".join(calendar.day_name), prompt)[0]
    [k] = map(int, numbers(prompt))
    back = "ago" in prompt or "before" in prompt
    some_monday = datetime(2024, 1, 1)
    date = some_monday + timedelta(days=list(calendar.day_name).index(day) + (-k if back else k))
    return date.strftime("%A"), (day, k, back)


@solves("end-time")
def _(prompt: str) -> Solved:
    start = re.search(r"\d\d:\d\d", prompt)[0]
    hours = re.search(r"(\d+) hours?", prompt)
    minutes = int(re.search(r"(\d+) minutes", prompt)[1]) + 60 * (int(hours[1]) if hours else 0)
    end = datetime.strptime(start, "%H:%M") + timedelta(minutes=minutes)
    return end.strftime("%H:%M"), (start, minutes)


@solves("change")
def _(prompt: str) -> Solved:
    amounts = sorted(Fraction(amount) for amount in re.findall(r"\$(\d+(?:\.\d+)?)", prompt))
    *prices, bill = amounts
    assert sum(prices) < bill
    return float(bill - sum(prices)), amounts


@solves("buying-and-sharing")
def _(prompt: str) -> Solved:
    a, b, c, *friends = numbers(prompt)
    if "gives" in prompt:
        return a + b - c, ("gives", a, b, c)
    total = a + b * c
    return total / friends[0] if friends else total, (a, b, c, *friends)


@solves("travel")
def _(prompt: str) -> Solved:
    legs = [(int(h), int(v)) for h, v in re.findall(r"(\d+) hours at (\d+) km per", prompt)]
    return sum(h * v for h, v in legs), sorted(legs)


@solves("rectangles")
def _(prompt: str) -> Solved:
    a, b = sorted(numbers(prompt))
    wanted = re.search("width|area|perimeter", re.sub("perimeter of", "", prompt))[0]
    if "a perimeter of" in prompt:
        return b / 2 - a, ("width", a, b)
    return (a * b if wanted == "area" else 2 * (a + b)), (wanted, a, b)


SIZE_OF_UNIT = {  # in metres, grams, litres or seconds
    "km": Fraction(1000), "m": Fraction(1), "cm": Fraction(1, 100), "mm": Fraction(1, 1000),
    "kg": Fraction(1000), "g": Fraction(1), "L": Fraction(1), "mL": Fraction(1, 1000),
    "second": Fraction(1), "minute": Fraction(60), "hour": Fraction(3600), "day": Fraction(86400),
}  # fmt: skip


def size_of(unit: str) -> Fraction:
    return SIZE_OF_UNIT[unit.removesuffix("s")]


@solves("unit-conversion")
def _(prompt: str) -> Solved:
    given = re.findall(r"(\d+) (\w+)", prompt)
    target = re.search(r"How many (\w+) are|(?:in|to) (\w+)[.?]$", prompt)
    unit = target[1] or target[2]
    total = sum(int(n) * size_of(u) for n, u in given) / size_of(unit)
    return float(total), (given, unit)


# --------------------------------------------------------------------------------------------------
# Steps

STATEMENTS: list[tuple[str, Callable[[re.Match[str], str], bool]]] = []


def states(pattern: str) -> Callable[[Callable[[re.Match[str], str], bool]], None]:
    """Register a check of the lines that match the pattern: is it so, given the prompt?"""
    return lambda check: STATEMENTS.append((pattern, check))


@states(r"(?:Hours: |Minutes: )?([-\d.+*/() ]+) ([=<>]) ([-\d.+*/() ]+)")
def _(line: re.Match[str], prompt: str) -> bool:
    compare = {"=": operator.eq, "<": operator.lt, ">": operator.gt}[line[2]]
    return compare(value(line[1]), value(line[3]))


@states(r"([a-z-]+) times ([a-z-]+) is (\d+) \* (\d+)")
def _(line: re.Match[str], prompt: str) -> bool:
    return [IN_WORDS[line[1]], IN_WORDS[line[2]]] == [int(line[3]), int(line[4])]


@states(r"(\d+) ends in (\d), which is (even|odd)\.")
def _(line: re.Match[str], prompt: str) -> bool:
    n = int(line[1])
    return n in numbers(prompt) and n % 10 == int(line[2]) and line[3] == ("even", "odd")[n % 2]


@states(r"(even|odd) ([+*]) (even|odd) is (even|odd)\.")
def _(line: re.Match[str], prompt: str) -> bool:
    a, b, c = (("even", "odd").index(word) for word in (line[1], line[3], line[4]))
    return (a + b if line[2] == "+" else a * b) % 2 == c


@states(r"\d+: [01](?:, \d+: [01])+")
def _(line: re.Match[str], prompt: str) -> bool:
    bits = [tuple(map(int, pair)) for pair in re.findall(r"(\d+): ([01])", line[0])]
    powers = [power for power, _ in bits]
    halving = all(a == 2 * b for a, b in itertools.pairwise(powers)) and powers[-1] == 1
    return halving and sum(p * bit for p, bit in bits) == max(numbers(prompt))


@states(r"(\d+) = ([IVXLCDM]+)")
def _(line: re.Match[str], prompt: str) -> bool:
    return to_roman(int(line[1])) == line[2]


@states(r"([a-z]+): ([a-z](?:\(\d\))?(?: [a-z](?:\(\d\))?)+)")
def _(line: re.Match[str], prompt: str) -> bool:
    letter = re.search(r"letter (\w)\b", prompt)
    wanted = letter[1] if letter else "aeiou"
    before = sum(c in wanted for c in quoted(prompt).partition(line[1])[0])
    numbering = itertools.count(before + 1)
    spelled = [f"{c}({next(numbering)})" if c in wanted else c for c in line[1]]
    return line[1] in quoted(prompt).split() and line[2].split() == spelled


@states(r"([a-z]+): ([a-z])")
def _(line: re.Match[str], prompt: str) -> bool:
    return line[1] in quoted(prompt).split() and line[1].endswith(line[2])


@states(r"(Forwards|Backwards): (\w(?: \w)+)")
def _(line: re.Match[str], prompt: str) -> bool:
    text = "".join(line[2].split())
    return (text if line[1] == "Forwards" else text[::-1]) in re.findall(r"\w+", prompt)


@states(r"[a-z] -> [a-z](?:, [a-z] -> [a-z])+")
def _(line: re.Match[str], prompt: str) -> bool:
    pairs = re.findall(r"(\w) -> (\w)", line[0])
    [places] = numbers(prompt)
    moved = all((ord(b) - ord(a)) % 26 == places for a, b in pairs)
    return moved and "".join(a for a, _ in pairs) == quoted(prompt)


@states(r"(Given|Word), sorted: ([a-z](?: [a-z])+)")
def _(line: re.Match[str], prompt: str) -> bool:
    given = re.search(r"letters ((?:[a-z] )+[a-z])(?![a-z])", prompt)[1].split()
    return line[2].split() == sorted(given if line[1] == "Given" else quoted(prompt))


@states(r"Smallest of ([-\d, ]+): (-?\d+)")
def _(line: re.Match[str], prompt: str) -> bool:
    left = numbers(line[1])
    return int(line[2]) == min(left) and sorted(numbers(prompt))[-len(left) :] == sorted(left)


@states(r"(\w+): (yes|no)")
def _(line: re.Match[str], prompt: str) -> bool:
    a, b = word_lists(prompt)
    return line[1] in a and (line[1] in b) == (line[2] == "yes")


@states(r"From (\w+) to (\w+): (.+)")
def _(line: re.Match[str], prompt: str) -> bool:
    return MOST[line[1]] == LEAST[line[2]] and line[3].split(", ") == ranking(prompt)


@states(r"([a-z]+): (bird|clothing|color|fruit|instrument|mammal|tool|vegetable|vehicle)")
def _(line: re.Match[str], prompt: str) -> bool:
    return line[1] in word_lists(prompt)[0] and kind_of()[line[1]] == line[2]


@states(r"(\w+), turn (\w+): (\w+)")
def _(line: re.Match[str], prompt: str) -> bool:
    return SOLVERS["turning"](f"{line[1]} {line[2]}")[0] == line[3]


@states(r"(\w+) is month (\d+)\.|Month (\d+) is (\w+)\.")
def _(line: re.Match[str], prompt: str) -> bool:
    return calendar.month_name[int(line[2] or line[3])] == (line[1] or line[4])


@states(r"(\d) days? (after|before) (\w+) is (\w+)\.")
def _(line: re.Match[str], prompt: str) -> bool:
    return line[3] in prompt and SOLVERS["weekdays"](line[0].partition(" is ")[0])[0] == line[4]


@states(r"(\d+) (\w+) = (\d+) (\w+)")
def _(line: re.Match[str], prompt: str) -> bool:
    return int(line[1]) * size_of(line[2]) == int(line[3]) * size_of(line[4])


def steps_of(row: Row) -> list[str]:
    return row["response"].split("\n")[:-1]


def is_true(line: str, prompt: str) -> bool:
    """Whether some check knows this kind of line, and every check that does agrees with it."""
    verdicts = [check(m, prompt) for p, check in STATEMENTS if (m := re.fullmatch(p, line))]
    return bool(verdicts) and all(verdicts)


# --------------------------------------------------------------------------------------------------
# The corpus as a whole


def test_it_has_the_promised_size(rows: list[Row]) -> None:
    assert [row["split"] for row in rows] == [s for s, n in SIZES.items() for _ in range(n)]
    content = CORPUS.read_bytes()
    assert len(content) < 3_000_000
    assert content.endswith(b"\n")
    assert b"\r" not in content


def test_rows_are_short(rows: list[Row]) -> None:
    lengths = [len(row["prompt"]) + len(row["response"]) for row in rows]
    assert sum(lengths) / len(lengths) <= 230
    assert max(lengths) <= 500


def test_rows_have_their_fields_in_order(rows: list[Row]) -> None:
    for row in rows:
        assert {name: type(field) for name, field in row.items()} == FIELDS
        assert list(row) == list(FIELDS)
        assert row["difficulty"] in (1, 2, 3)
        assert row["verifier"] in ("number", "exact")
        assert all(row[name] == row[name].strip() != "" for name in ("prompt", "answer"))
        assert re.fullmatch(rf"{row['family']}-\d{{4}}", row["id"])


def test_ids_and_prompts_are_unique(rows: list[Row]) -> None:
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({" ".join(row["prompt"].lower().split()) for row in rows}) == len(rows)


def test_no_problem_occurs_twice_in_other_words(rows: list[Row]) -> None:
    problems = Counter(f"{r['family']} {SOLVERS[r['family']](r['prompt'])[1]}" for r in rows)
    assert [problem for problem, n in problems.items() if n > 1] == []


def test_there_are_enough_kinds_of_task(by_family: dict[str, list[Row]]) -> None:
    assert len(by_family) >= 24
    assert set(by_family) == set(SOLVERS)
    described = {f: {(r["category"], r["verifier"]) for r in rs} for f, rs in by_family.items()}
    assert all(len(kinds) == 1 for kinds in described.values())
    assert len({category for kinds in described.values() for category, _ in kinds}) >= 7


@pytest.mark.parametrize("split", SIZES)
def test_any_prefix_of_a_split_is_a_fair_mix(rows: list[Row], split: str) -> None:
    families = Counter(dict.fromkeys(SOLVERS, 0))
    levels = Counter({1: 0, 2: 0, 3: 0})
    for row in rows:
        if row["split"] == split:
            families[row["family"]] += 1
            levels[row["difficulty"]] += 1
            assert max(families.values()) - min(families.values()) <= 1
            assert max(levels.values()) - min(levels.values()) <= 30
    assert min(families.values()) >= 14


@pytest.mark.parametrize("family", SOLVERS)
def test_every_level_is_a_third_of_a_family(by_family: dict[str, list[Row]], family: str) -> None:
    for split in SIZES:
        levels = Counter(r["difficulty"] for r in by_family[family] if r["split"] == split)
        assert max(levels.values()) - min(levels.values()) <= 2


def test_the_hardest_level_takes_more_text_than_the_easiest(
    by_family: dict[str, list[Row]],
) -> None:
    def load(rows: list[Row], level: int) -> float:
        sizes = [len(r["prompt"] + r["response"]) for r in rows if r["difficulty"] == level]
        return sum(sizes) / len(sizes)

    not_longer = [f for f, rows in by_family.items() if load(rows, 1) >= load(rows, 3)]
    assert not_longer == []


def test_every_task_is_worded_in_four_ways() -> None:
    script = runpy.run_path(str(SCRIPT))
    for family, level in itertools.product(script["FAMILIES"], (1, 2, 3)):
        task = family.generate(Random(0), level)
        assert len(set(task.wordings)) == 4, family.name


# --------------------------------------------------------------------------------------------------
# Answers and steps


def test_the_last_line_states_the_answer(rows: list[Row]) -> None:
    for row in rows:
        assert row["response"].split("\n")[-1] == f"Answer: {row['answer']}"
        assert strict_answer(row["response"]) == row["answer"]
        assert verify(row["verifier"], strict_answer(row["response"]), row["answer"])


def test_numbers_are_plain(rows: list[Row]) -> None:
    answers = [row["answer"] for row in rows if row["verifier"] == "number"]
    assert [a for a in answers if not re.fullmatch(r"-?\d+(\.\d+|/\d+)?", a)] == []


@pytest.mark.parametrize("family", SOLVERS)
def test_answers_follow_from_the_prompts(by_family: dict[str, list[Row]], family: str) -> None:
    for row in by_family[family]:
        answer, _ = SOLVERS[family](row["prompt"])
        assert verify(row["verifier"], row["answer"], answer), row


@pytest.mark.parametrize("family", SOLVERS)
def test_every_step_is_true(by_family: dict[str, list[Row]], family: str) -> None:
    for row in by_family[family]:
        assert steps_of(row)
        assert [line for line in steps_of(row) if not is_true(line, row["prompt"])] == [], row


def test_a_wrong_step_is_noticed() -> None:
    assert is_true("50 + 11 = 61", "")
    for wrong in ("50 + 11 = 62", "so the answer is 61", "XL = 40", "7 > 8", "Month 4 is March."):
        assert not is_true(wrong, "What is 34 + 27?")


def test_worked_solutions_end_in_the_answer(rows: list[Row]) -> None:
    """Where the last step is an equation, its right side is the answer."""
    for row in rows:
        last = steps_of(row)[-1]
        if row["verifier"] == "number" and " = " in last:
            assert value(last.split(" = ")[1]) == value(row["answer"]), row


def test_many_families_take_several_steps(by_family: dict[str, list[Row]]) -> None:
    several = [
        f for f, rows in by_family.items() if sum(map(len, map(steps_of, rows))) > 2 * len(rows)
    ]
    assert len(several) >= 14


def test_one_answer_to_everything_does_not_get_far(by_family: dict[str, list[Row]]) -> None:
    for family, rows in by_family.items():
        [(_, n)] = Counter(row["answer"] for row in rows).most_common(1)
        assert n <= 0.6 * len(rows), family


# --------------------------------------------------------------------------------------------------
# The script and the card


def build(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("hash_seed", [1, 2])
def test_building_again_gives_the_same_bytes(tmp_path: Path, hash_seed: int) -> None:
    out = tmp_path / "demo.jsonl"
    assert build("--out", str(out), hash_seed=hash_seed).returncode == 0
    assert out.read_bytes() == CORPUS.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_check_tells_a_changed_file(tmp_path: Path) -> None:
    assert build("--check").returncode == 0
    changed = tmp_path / "demo.jsonl"
    assert build("--check", "--out", str(changed)).returncode == 1
    changed.write_bytes(CORPUS.read_bytes()[:-2])
    assert build("--check", "--out", str(changed)).returncode == 1


def table_of_card() -> Iterator[list[str]]:
    for line in CARD.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 8 and cells[0] != "family":
            yield cells


def test_the_card_describes_every_family_as_it_is(by_family: dict[str, list[Row]]) -> None:
    table = {cells[0]: cells[1:] for cells in table_of_card()}
    assert set(table) == set(by_family)
    for family, (category, task, pool, probe, test, verifier, example) in table.items():
        mine = by_family[family]
        assert (category, verifier) == (mine[0]["category"], mine[0]["verifier"])
        splits = Counter(row["split"] for row in mine)
        assert [int(pool), int(probe), int(test)] == [splits[split] for split in SIZES]
        assert task.count(":") == 1
        assert task.count(";") == 2
        assert example in [f"`{row['prompt']}` → `{row['answer']}`" for row in mine]


def test_the_card_counts_right(rows: list[Row], by_family: dict[str, list[Row]]) -> None:
    card = " ".join(CARD.read_text(encoding="utf-8").split())
    mean_length = sum(len(row["prompt"]) + len(row["response"]) for row in rows) / len(rows)
    categories = {row["category"] for row in rows}
    assert (
        f"{len(rows):,} rows in {len(by_family)} families and {len(categories)} categories" in card
    )
    assert f"{mean_length:.0f} characters" in card
    assert f"{CORPUS.stat().st_size / 1e6:.1f} MB" in card

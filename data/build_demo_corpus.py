"""Build the demo corpus: 6,000 small tasks with worked solutions, made by the generators below.

    python data/build_demo_corpus.py            write data/demo.jsonl
    python data/build_demo_corpus.py --check    exit 1 if data/demo.jsonl is not up to date
    python data/build_demo_corpus.py --card     write the families table of data/README.md too

Standard library only, and deterministic: the same source gives the same bytes. A family of tasks is
one function of a random generator and a difficulty (1, 2 or 3). Its docstring says what the task is
and, after the colon, what sets the three levels apart; the data card is made from it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise, zip_longest
from pathlib import Path
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
Number = TypeVar("Number", int, Decimal)
Row = dict[str, Any]

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "demo.jsonl"
CARD = HERE / "README.md"
TABLE_MARKS = ("<!-- families: written by build_demo_corpus.py --card -->", "<!-- end -->")

SEED = 20260401
SPLITS = {"pool": 5000, "probe": 500, "test": 500}


# --------------------------------------------------------------------------------------------------
# Tasks and families


@dataclass(frozen=True)
class Task:
    """One problem, solved."""

    wordings: Sequence[str]
    """Prompts that ask for the same thing; a row takes one of them."""
    steps: Sequence[str]
    """The worked solution, each line a statement that can be checked."""
    answer: str
    key: object
    """What makes it this problem, whatever the wording: no two rows of a family share a key."""

    @property
    def response(self) -> str:
        """The text to learn: the steps, then the answer on a line of its own."""
        return "\n".join((*self.steps, f"Answer: {self.answer}"))


Generator = Callable[[Random, int], Task]


@dataclass(frozen=True)
class Family:
    """A kind of task: who generates it and how its answers are compared."""

    name: str
    category: str
    verifier: str
    generate: Generator


FAMILIES: list[Family] = []


def family(category: str, verifier: str) -> Callable[[Generator], Generator]:
    """Register a generator; the family is named after the function."""

    def register(generate: Generator) -> Generator:
        name = generate.__name__.replace("_", "-")
        FAMILIES.append(Family(name, category, verifier, generate))
        return generate

    return register


# --------------------------------------------------------------------------------------------------
# Small helpers of the generators


def by_level(difficulty: int, easy: T, medium: T, hard: T) -> T:
    """Choose what belongs to the difficulty."""
    return (easy, medium, hard)[difficulty - 1]


def such_that(draw: Callable[[], T], accept: Callable[[T], bool]) -> T:
    """Draw until a value is accepted.

    Raises
    ------
    RuntimeError
        If none ever is: a family has fewer distinct tasks than are asked of it.
    """
    for _ in range(100_000):
        value = draw()
        if accept(value):
            return value
    raise RuntimeError("no acceptable value was drawn")


def words(text: str) -> list[str]:
    """Split a line of words."""
    return text.split()


def listed(items: Iterable[object]) -> str:
    """Join as in ``4, 8, 15``."""
    return ", ".join(map(str, items))


def spaced(letters: Iterable[str]) -> str:
    """Join as in ``w o r d``."""
    return " ".join(letters)


def count(n: int, noun: str) -> str:
    """Say how many: ``1 hour``, ``2 hours``; symbols stay as they are, ``1 km``, ``2 km``."""
    return f"{n} {noun.removesuffix('s') if n == 1 else noun}"


def running_sum(values: Sequence[Number]) -> list[str]:
    """Add the values one after another, a line for each addition."""
    totals = [sum(values[:n]) for n in range(1, len(values) + 1)]
    return [f"{a} + {x} = {b}" for (a, b), x in zip(pairwise(totals), values[1:], strict=True)]


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


# --------------------------------------------------------------------------------------------------
# Vocabulary

NAMES = words(
    "Amir Ana Ben Cara Dan Ella Emma Finn Grace Hugo Iris Jack Kim Leo Lucy Maya Mia Nina Noah "
    "Omar Priya Rosa Ruth Sam Tara Tom Vera Will Yuki Zoe"
)
THINGS = words("apples beads books buttons cards coins marbles nuts pens shells stamps stickers")

SHORT_WORDS = words(  # 4 letters
    "bank bell bird boat book cake card city coat corn desk door drum duck farm fire fish flag "
    "frog game gate gift gold hand hill hope horn king kite lake lamp leaf lion lock milk moon "
    "nest note park path pear pond rain ring road rope rose salt sand ship shoe snow soap song "
    "star tent time town tree wind wolf wood yard"
)
MEDIUM_WORDS = words(  # 5 or 6 letters
    "apple beach bread bridge button camera candle carpet castle chair cheese circle cloud coffee "
    "cookie corner cotton dinner dragon engine family farmer finger flower forest garden ginger "
    "grape guitar hammer honey horse island jacket juice kitten ladder lemon letter market mirror "
    "monkey museum number ocean orange paper pencil pepper piano planet pocket potato rabbit river "
    "rocket school silver spring summer sugar table tiger tomato tunnel turtle valley window "
    "winter yellow"
)
LONG_WORDS = words(  # 7 to 9 letters
    "airport balloon bicycle blanket breakfast building butterfly calendar cardboard carpenter "
    "chicken chocolate classroom computer crocodile dolphin elephant envelope evening factory "
    "feather festival football fountain freedom gallery giraffe goldfish hospital journey kitchen "
    "language lantern library luggage machine mailbox medicine midnight morning mountain mushroom "
    "musician notebook opposite orchestra paradise passenger penguin pineapple pumpkin question "
    "rainbow sandwich scissors seashell snowflake squirrel sunflower telephone treasure triangle "
    "umbrella vacation volcano waterfall whisper yesterday"
)

KINDS = {
    "bird": words("crow duck eagle goose hawk owl parrot robin sparrow swan"),
    "clothing": words("belt coat dress glove hat jacket scarf shirt skirt sock"),
    "color": words("black blue brown gray green pink purple red white yellow"),
    "fruit": words("apple banana cherry grape lemon mango melon peach pear plum"),
    "instrument": words("banjo cello drum flute guitar harp piano trumpet tuba violin"),
    "mammal": words("bear cow dog fox goat horse lion rabbit sheep wolf"),
    "tool": words("axe chisel drill hammer mallet pliers rake saw shovel wrench"),
    "vegetable": words("cabbage carrot celery garlic leek lettuce onion potato spinach turnip"),
    "vehicle": words("bike bus car ferry taxi tractor train tram truck van"),
}
CLOSE_KINDS = [["bird", "mammal"], ["fruit", "vegetable"], ["instrument", "tool"]]

MONTHS = words(
    "January February March April May June July August September October November December"
)
WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

UP_TO_NINETEEN = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")


def in_words(n: int) -> str:
    """Write a number below 100 in English."""
    if n < 20:
        return UP_TO_NINETEEN[n]
    tens, ones = TENS[n // 10 - 2], n % 10
    return f"{tens}-{UP_TO_NINETEEN[ones]}" if ones else tens


# --------------------------------------------------------------------------------------------------
# Arithmetic


def two_digits(rng: Random) -> int:
    """Draw a two-digit number without a zero in it."""
    return 10 * rng.randint(1, 9) + rng.randint(1, 9)


@family("arithmetic", "number")
def addition(rng: Random, difficulty: int) -> Task:
    """Two-digit sums, tens and ones apart: no carry; a carry; a carry and past a hundred."""

    def fits(pair: tuple[int, int]) -> bool:
        carries, past_hundred = pair[0] % 10 + pair[1] % 10 > 9, sum(pair) > 99
        return carries == (difficulty > 1) and past_hundred == (difficulty > 2)

    a, b = such_that(lambda: (two_digits(rng), two_digits(rng)), fits)
    tens_a, tens_b, ones_a, ones_b = a // 10 * 10, b // 10 * 10, a % 10, b % 10
    tens, ones = tens_a + tens_b, ones_a + ones_b
    wordings = [
        f"What is {a} + {b}?",
        f"Add {a} and {b}.",
        f"Find the sum of {a} and {b}.",
        f"Work out {a} plus {b}.",
    ]
    steps = [f"{tens_a} + {tens_b} = {tens}", f"{ones_a} + {ones_b} = {ones}"]
    steps.append(f"{tens} + {ones} = {a + b}")
    return Task(wordings, steps, str(a + b), sorted((a, b)))


@family("arithmetic", "number")
def subtraction(rng: Random, difficulty: int) -> Task:
    """Differences, tens first: no borrowing; borrowing; from a three-digit number."""

    def fits(pair: tuple[int, int]) -> bool:
        borrows = pair[0] % 10 < pair[1] % 10
        return borrows == (difficulty > 1) and pair[0] - pair[1] > 9

    hundred = by_level(difficulty, 0, 0, 100)
    a, b = such_that(lambda: (hundred + two_digits(rng), two_digits(rng)), fits)
    tens, ones = b // 10 * 10, b % 10
    wordings = [
        f"What is {a} - {b}?",
        f"Subtract {b} from {a}.",
        f"Take {b} away from {a}.",
        f"Find the difference between {a} and {b}.",
    ]
    steps = [f"{a} - {tens} = {a - tens}", f"{a - tens} - {ones} = {a - b}"]
    return Task(wordings, steps, str(a - b), (a, b))


@family("arithmetic", "number")
def products_in_words(rng: Random, difficulty: int) -> Task:
    """Products of numbers in words: up to twelve; 13 to 25 times a digit; 26 to 99."""
    a = rng.randint(*by_level(difficulty, (2, 12), (13, 25), (26, 99)))
    b = rng.randint(2, by_level(difficulty, 12, 9, 9))
    first, second, tens, ones = in_words(a), in_words(b), a // 10 * 10, a % 10
    wordings = [
        f"What is {first} times {second}?",
        f"Multiply {first} by {second}.",
        f"Find the product of {first} and {second}.",
        f"Calculate {first} multiplied by {second}.",
    ]
    steps = [f"{first} times {second} is {a} * {b}"]
    if difficulty > 1 and ones:
        steps += [f"{tens} * {b} = {tens * b}", f"{ones} * {b} = {ones * b}"]
        steps.append(f"{tens * b} + {ones * b} = {a * b}")
    else:
        steps.append(f"{a} * {b} = {a * b}")
    return Task(wordings, steps, str(a * b), sorted((a, b)))


def reductions(expression: str) -> list[str]:
    """Work out an expression one operation at a time: brackets, products, then left to right."""
    steps = []
    for operation in (r"\((\d+) ([-+]) (\d+)\)", r"(\d+) (\*) (\d+)", r"(\d+) ([-+]) (\d+)"):
        while match := re.search(operation, expression):
            a, operator, b = match.groups()
            value = OPERATIONS[operator](int(a), int(b))
            steps.append(f"{a} {operator} {b} = {value}")
            expression = f"{expression[: match.start()]}{value}{expression[match.end() :]}"
    return steps


@family("arithmetic", "number")
def order_of_operations(rng: Random, difficulty: int) -> Task:
    """Expressions, one operation at a time: two operations; with a bracket; three operations."""
    shapes = by_level(
        difficulty,
        ("{a} + {b} * {c}", "{a} * {b} - {c}", "{a} - {b} * {c}"),
        ("({a} + {b}) * {c}", "{a} * ({b} - {c})", "{a} - ({b} + {c})"),
        ("{a} * {b} + {c} * {d}", "({a} + {b}) * {c} - {d}", "{a} + {b} * ({c} - {d})"),
    )

    def draw() -> str:
        b, c, d = (rng.randint(2, 9) for _ in range(3))
        return rng.choice(shapes).format(a=rng.randint(2, 30), b=b, c=c, d=d)

    expression = such_that(
        draw, lambda e: not any(re.search("= [-0]", step) for step in reductions(e))
    )
    wordings = [
        f"Calculate {expression}.",
        f"What is {expression}?",
        f"Find the value of {expression}.",
        f"Work out {expression}, one operation at a time.",
    ]
    steps = reductions(expression)
    return Task(wordings, steps, steps[-1].split(" = ")[1], expression)


@family("arithmetic", "number")
def adding_fractions(rng: Random, difficulty: int) -> Task:
    """Sums of two fractions: alike in the denominator; one divides the other; neither does."""

    def fits(pair: tuple[Fraction, Fraction]) -> bool:
        low, high = sorted(x.denominator for x in pair)
        right_level = by_level(difficulty, low == high, low < high and high % low == 0, high % low)
        return bool(right_level) and math.lcm(low, high) <= 60 and sum(pair).denominator > 1

    def fraction() -> Fraction:
        denominator = rng.randint(2, 12)
        return Fraction(rng.randint(1, denominator - 1), denominator)

    p, q = such_that(lambda: (fraction(), fraction()), fits)
    common = math.lcm(p.denominator, q.denominator)
    a, b = int(p * common), int(q * common)
    wordings = [
        f"What is {p} + {q}?",
        f"Add {p} and {q}.",
        f"Find the sum of {p} and {q} in lowest terms.",
        f"Work out {p} plus {q} as a fraction.",
    ]
    steps = [f"{x} = {int(x * common)}/{common}" for x in (p, q) if x.denominator < common]
    steps.append(f"{a}/{common} + {b}/{common} = {a + b}/{common}")
    steps += [f"{a + b}/{common} = {p + q}"] if (p + q).denominator < common else []
    return Task(wordings, steps, str(p + q), sorted((p, q)))


@family("arithmetic", "number")
def percentages(rng: Random, difficulty: int) -> Task:
    """Percentages of a number: 10, 20, 25 or 50; any multiple of five; a price that changes."""
    percent = rng.choice(by_level(difficulty, (10, 20, 25, 50), range(5, 100, 5), range(5, 65, 5)))
    amount = 20 * rng.randint(1, 20)
    part = amount * percent // 100
    steps = [f"{amount} * {percent} = {amount * percent}", f"{amount * percent} / 100 = {part}"]
    if difficulty < 3:
        wordings = [
            f"What is {percent}% of {amount}?",
            f"Find {percent} percent of {amount}.",
            f"Calculate {percent}% of {amount}.",
            f"How much is {percent}% of {amount}?",
        ]
        return Task(wordings, steps, str(part), (percent, amount))
    change, sign = rng.choice((("rises", "+"), ("falls", "-")))
    price, thing = OPERATIONS[sign](amount, part), rng.choice(words("bike coat desk lamp phone"))
    wordings = [
        f"A {thing} costs ${amount}. The price {change} by {percent}%. What is it now, in dollars?",
        f"If a price of ${amount} {change} by {percent}%, how many dollars is it then?",
        f"The price of a {thing} {change} by {percent}% from ${amount}. Find the new price.",
        f"What is the price of a ${amount} {thing}, in dollars, after it {change} by {percent}%?",
    ]
    steps.append(f"{amount} {sign} {part} = {price}")
    return Task(wordings, steps, str(price), (percent, amount, sign))


# --------------------------------------------------------------------------------------------------
# Number sense


def parity_of(n: int) -> str:
    """Say whether a number is even or odd."""
    return "odd" if n % 2 else "even"


@family("number-sense", "exact")
def parity(rng: Random, difficulty: int) -> Task:
    """Even or odd: a two-digit number; a four-digit number; a sum or product of two numbers."""
    low, high = by_level(difficulty, (10, 99), (1000, 9999), (11, 99))
    numbers = [rng.randint(low, high) for _ in range(by_level(difficulty, 1, 1, 2))]
    steps = [f"{n} ends in {n % 10}, which is {parity_of(n)}." for n in numbers]
    subject, answer = str(numbers[0]), parity_of(numbers[0])
    if difficulty == 3:
        (a, b), sign = numbers, rng.choice("+*")
        subject, answer = f"{a} {sign} {b}", parity_of(OPERATIONS[sign](a, b))
        steps.append(f"{parity_of(a)} {sign} {parity_of(b)} is {answer}.")
    wordings = [
        f"Is {subject} even or odd?",
        f"Even or odd: {subject}?",
        f"Tell me whether {subject} is even or odd.",
        f"Decide if {subject} is an even or an odd number.",
    ]
    return Task(wordings, steps, answer, sorted(subject.split()))


@family("number-sense", "number")
def largest_of_four(rng: Random, difficulty: int) -> Task:
    """The largest of four: two-digit numbers; three digits, alike in the first; decimals."""
    lead = rng.randint(1, 9)
    hundredths = [f"{lead}.{n:02d}" for n in range(1, 100) if n % 10]
    tenths = [f"{lead}.{n}" for n in range(1, 10)]
    numbers = by_level(
        difficulty,
        [str(n) for n in rng.sample(range(10, 100), 4)],
        [f"{lead}{n:02d}" for n in rng.sample(range(100), 4)],
        rng.sample(rng.sample(hundredths, 2) + rng.sample(tenths, 2), 4),
    )
    steps, best, shown = [], numbers[0], listed(numbers)
    for n in numbers[1:]:
        steps.append(f"{best} {'<' if float(best) < float(n) else '>'} {n}")
        best = max(best, n, key=float)
    wordings = [
        f"Which is the largest of {shown}?",
        f"Of the numbers {shown}, which is the greatest?",
        f"What is the biggest number among {shown}?",
        f"Find the largest number in this list: {shown}",
    ]
    return Task(wordings, steps, best, sorted(numbers))


@family("number-sense", "number")
def remainder(rng: Random, difficulty: int) -> Task:
    """Remainders: by 3, 4 or 5; by 6 to 9; of a three-digit number by 11 to 19."""
    divisor = rng.randint(*by_level(difficulty, (3, 5), (6, 9), (11, 19)))
    n = rng.randint(*by_level(difficulty, (11, 49), (31, 99), (100, 199)))
    multiple, rest = n - n % divisor, n % divisor
    wordings = [
        f"What is the remainder when {n} is divided by {divisor}?",
        f"Divide {n} by {divisor}. What is the remainder?",
        f"Find {n} mod {divisor}.",
        f"{n} {rng.choice(THINGS)} are packed in full boxes of {divisor}. How many are left over?",
    ]
    steps = [f"{divisor} * {n // divisor} = {multiple}", f"{n} - {multiple} = {rest}"]
    return Task(wordings, steps, str(rest), (n, divisor))


@family("number-sense", "number")
def digit_sum(rng: Random, difficulty: int) -> Task:
    """Sums of the digits of a number: three digits; four; six."""
    digits = [rng.randint(1, 9) for _ in range(by_level(difficulty, 3, 4, 6))]
    n = "".join(map(str, digits))
    wordings = [
        f"What is the sum of the digits of {n}?",
        f"Add up the digits of {n}.",
        f"Find the digit sum of {n}.",
        f"What do the digits of {n} add up to?",
    ]
    return Task(wordings, running_sum(digits), str(sum(digits)), n)


@family("number-sense", "exact")
def binary(rng: Random, difficulty: int) -> Task:
    """Numbers in base 2: below 100; below 256; below 512."""
    low, high = by_level(difficulty, (5, 99), (100, 255), (257, 511))
    n = such_that(lambda: rng.randint(low, high), lambda drawn: drawn.bit_count() > 1)
    powers = [1 << i for i in reversed(range(n.bit_length()))]
    wordings = [
        f"Write {n} in binary.",
        f"Convert {n} to binary.",
        f"What is {n} in base 2?",
        f"Give the binary form of {n}.",
    ]
    steps = [f"{n} = {' + '.join(str(p) for p in powers if n & p)}"]
    steps.append(listed(f"{p}: {1 if n & p else 0}" for p in powers))
    return Task(wordings, steps, f"{n:b}", n)


ROMAN_DIGITS = (
    words("I II III IV V VI VII VIII IX"),
    words("X XX XXX XL L LX LXX LXXX XC"),
    words("C CC CCC CD D DC DCC DCCC CM"),
    words("M MM MMM"),
)


@family("number-sense", "exact")
def roman_numerals(rng: Random, difficulty: int) -> Task:
    """Roman numerals, digit by digit: two digits; three; four."""
    low, high = by_level(difficulty, (11, 99), (101, 999), (1001, 3999))
    n = such_that(lambda: rng.randint(low, high), lambda drawn: drawn % 10 > 0)
    places = [(n // 10**place % 10, place) for place in range(len(str(n)))]
    parts = [(d * 10**place, ROMAN_DIGITS[place][d - 1]) for d, place in reversed(places) if d]
    wordings = [
        f"Write {n} as a Roman numeral.",
        f"What is {n} in Roman numerals?",
        f"Convert {n} to Roman numerals.",
        f"How would the Romans have written {n}?",
    ]
    steps = [f"{n} = {' + '.join(str(value) for value, _ in parts)}"]
    steps += [f"{value} = {numeral}" for value, numeral in parts]
    return Task(wordings, steps, "".join(numeral for _, numeral in parts), n)


# --------------------------------------------------------------------------------------------------
# Strings


def words_to_count_in(rng: Random, difficulty: int) -> list[str]:
    """Draw a short word, a long word, or two words."""
    if difficulty == 3:
        return rng.sample(MEDIUM_WORDS, 2)
    return [rng.choice(SHORT_WORDS + MEDIUM_WORDS if difficulty == 1 else LONG_WORDS)]


def counting(chosen: Sequence[str], wanted: str) -> tuple[list[str], int]:
    """Spell the words and number the wanted letters: ``banana: b a(1) n a(2) n a(3)``."""
    lines, found = [], 0
    for word in chosen:
        spelled = []
        for letter in word:
            found += letter in wanted
            spelled.append(f"{letter}({found})" if letter in wanted else letter)
        lines.append(f"{word}: {spaced(spelled)}")
    return lines, found


@family("strings", "number")
def counting_letters(rng: Random, difficulty: int) -> Task:
    """How often a letter occurs: in a short word; in a long word; in two words."""
    chosen = words_to_count_in(rng, difficulty)
    text, letters = " ".join(chosen), "".join(chosen)
    [letter] = rng.choices(letters, [letters.count(c) ** 3 for c in letters])  # not always once
    wordings = [
        f'How many times does the letter {letter} appear in "{text}"?',
        f'Count the letter {letter} in "{text}".',
        f'How often does the letter {letter} occur in "{text}"?',
        f'In "{text}", how many times is the letter {letter} used?',
    ]
    steps, found = counting(chosen, letter)
    return Task(wordings, steps, str(found), (sorted(chosen), letter))


@family("strings", "number")
def counting_vowels(rng: Random, difficulty: int) -> Task:
    """How many letters are a, e, i, o or u: in a short word; in a long word; in two words."""
    chosen = words_to_count_in(rng, difficulty)
    text = " ".join(chosen)
    wordings = [
        f'How many vowels are in "{text}"?',
        f'Count the vowels in "{text}".',
        f'What is the number of vowels in "{text}"?',
        f'In "{text}", how many letters are vowels?',
    ]
    steps, found = counting(chosen, "aeiou")
    return Task(wordings, steps, str(found), sorted(chosen))


@family("strings", "exact")
def last_letters(rng: Random, difficulty: int) -> Task:
    """Last letters of words, joined: two words; three; four."""
    chosen = rng.sample(SHORT_WORDS + MEDIUM_WORDS, by_level(difficulty, 2, 3, 4))
    text = " ".join(chosen)
    wordings = [
        f'Take the last letter of each word in "{text}" and join them.',
        f'Join the last letters of the words in "{text}".',
        f'What do the last letters of "{text}" spell?',
        f'Write the last letter of every word in "{text}" as one string.',
    ]
    steps = [f"{word}: {word[-1]}" for word in chosen]
    return Task(wordings, steps, "".join(word[-1] for word in chosen), text)


@family("strings", "exact")
def reversing(rng: Random, difficulty: int) -> Task:
    """Words written backwards: 4 letters; 5 or 6; 7 to 9."""
    word = rng.choice(by_level(difficulty, SHORT_WORDS, MEDIUM_WORDS, LONG_WORDS))
    wordings = [
        f'Reverse the word "{word}".',
        f'Write "{word}" backwards.',
        f'Spell "{word}" in reverse.',
        f'What is "{word}" with its letters in reverse order?',
    ]
    steps = [f"Forwards: {spaced(word)}", f"Backwards: {spaced(word[::-1])}"]
    return Task(wordings, steps, word[::-1], word)


@family("strings", "exact")
def caesar_shift(rng: Random, difficulty: int) -> Task:
    """Letters moved along the alphabet: 1 or 2 places; 3 or 4; 5 to 8, in longer words."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    word = rng.choice(by_level(difficulty, SHORT_WORDS, SHORT_WORDS, MEDIUM_WORDS))
    places = rng.randint(*by_level(difficulty, (1, 2), (3, 4), (5, 8)))
    moved = word.translate(str.maketrans(alphabet, alphabet[places:] + alphabet[:places]))
    wordings = [
        f'Move every letter of "{word}" forward by {places} in the alphabet.',
        f'Apply a Caesar shift of {places} to "{word}".',
        f'Encode "{word}" with a Caesar cipher that shifts letters forward by {places}.',
        f'What does "{word}" become if each letter moves forward by {places}?',
    ]
    steps = [listed(f"{a} -> {b}" for a, b in zip(word, moved, strict=True))]
    return Task(wordings, steps, moved, (word, places))


@family("strings", "exact")
def palindromes(rng: Random, difficulty: int) -> Task:
    """Codes that may read the same both ways: 3 characters; 5; 7."""
    alphabet = "BCDFGHJKLMNPRSTVWXZ2345679"  # without vowels no code spells anything
    half = rng.sample(alphabet, by_level(difficulty, 2, 3, 4))
    code = half + half[-2::-1]
    if rng.random() < 0.5:
        place = rng.randrange(len(half), len(code))
        code[place] = such_that(lambda: rng.choice(alphabet), lambda c: c != code[place])
    forwards, backwards = "".join(code), "".join(reversed(code))
    wordings = [
        f"Is {forwards} a palindrome?",
        f"Does {forwards} read the same forwards and backwards?",
        f"Tell me, yes or no: is {forwards} a palindrome?",
        f"Is the code {forwards} the same when it is reversed?",
    ]
    steps = [f"Forwards: {spaced(forwards)}", f"Backwards: {spaced(backwards)}"]
    answer = "yes" if forwards == backwards else "no"
    return Task(wordings, steps, answer, min(forwards, backwards))


@family("strings", "exact")
def anagrams(rng: Random, difficulty: int) -> Task:
    """Whether letters, at most one of them wrong, spell a word: 4 letters; 5 or 6; 7 to 9."""
    word = rng.choice(by_level(difficulty, SHORT_WORDS, MEDIUM_WORDS, LONG_WORDS))
    letters = list(word)
    if rng.random() < 0.5:
        place = rng.randrange(len(word))
        letters[place] = such_that(lambda: rng.choice("adeilnorst"), lambda c: c != word[place])
    mixed = such_that(lambda: rng.sample(letters, len(letters)), lambda drawn: drawn != letters)
    shown = spaced(mixed)
    wordings = [
        f'Can the letters {shown} be rearranged to spell "{word}"?',
        f'Do the letters {shown} spell "{word}" in some order?',
        f'Is "{word}" an anagram of the letters {shown}?',
        f'Can you write "{word}" with exactly the letters {shown}?',
    ]
    steps = [f"Given, sorted: {spaced(sorted(mixed))}", f"Word, sorted: {spaced(sorted(word))}"]
    answer = "yes" if sorted(mixed) == sorted(word) else "no"
    return Task(wordings, steps, answer, word)


# --------------------------------------------------------------------------------------------------
# Lists


@family("lists", "exact")
def sorting_four(rng: Random, difficulty: int) -> Task:
    """Four numbers in order: two digits; three digits, alike in the first; some below zero."""
    hundred = 100 * rng.randint(1, 9)
    numbers = by_level(
        difficulty,
        rng.sample(range(10, 100), 4),
        rng.sample(range(hundred, hundred + 100), 4),
        rng.sample(rng.sample(range(-50, 0), 2) + rng.sample(range(1, 50), 2), 4),
    )
    shown, ordered, left, steps = listed(numbers), sorted(numbers), list(numbers), []
    for n in ordered[:-1]:
        steps.append(f"Smallest of {listed(left)}: {n}")
        left.remove(n)
    wordings = [
        f"Sort these numbers from smallest to largest: {shown}",
        f"Put {shown} in ascending order.",
        f"Arrange {shown} in increasing order.",
        f"Write {shown} in order, smallest first.",
    ]
    return Task(wordings, steps, listed(ordered), ordered)


@family("lists", "number")
def next_term(rng: Random, difficulty: int) -> Task:
    """Sequences to continue: equal steps; equal factors; steps that grow."""
    if difficulty == 2:
        first, factor = rng.randint(1, 30), rng.randint(2, 4)
        terms = [first * factor**i for i in range(5)]
        steps = [f"{b} / {a} = {factor}" for a, b in pairwise(terms[:4])]
        steps.append(f"{terms[3]} * {factor} = {terms[4]}")
    else:
        first, step, growth = rng.randint(1, 30), rng.randint(2, 12), rng.randint(1, 5)
        growth *= difficulty == 3
        terms = [first + step * i + growth * i * (i - 1) // 2 for i in range(5)]
        steps = [f"{b} - {a} = {b - a}" for a, b in pairwise(terms[:4])]
        last, following = terms[3] - terms[2], terms[4] - terms[3]
        steps += [f"{last} + {growth} = {following}"] if growth else []
        steps.append(f"{terms[3]} + {following} = {terms[4]}")
    shown = listed(terms[:4])
    wordings = [
        f"What comes next: {shown}, ...?",
        f"Find the next number: {shown}, ...",
        f"Continue the sequence {shown} by one number.",
        f"Which number follows {shown}?",
    ]
    return Task(wordings, steps, str(terms[4]), terms)


@family("lists", "exact")
def in_both_lists(rng: Random, difficulty: int) -> Task:
    """Words that two lists share, in the same order: one of three; two of four; three of five."""
    size, shared = difficulty + 2, difficulty
    items = rng.sample(KINDS[rng.choice(list(KINDS))], 2 * size - shared)
    common = iter(items[:shared]), iter(items[:shared])
    rest = iter(items[shared:])
    places = [sorted(rng.sample(range(size), shared)) for _ in common]
    a, b = (
        [next(both if i in own else rest) for i in range(size)]
        for both, own in zip(common, places, strict=True)
    )
    wordings = [
        f"Which words are in both lists? List A: {listed(a)}. List B: {listed(b)}.",
        f"List A: {listed(a)}. List B: {listed(b)}. What do the lists have in common?",
        f"Find every word that list A ({listed(a)}) shares with list B ({listed(b)}).",
        f"Give the words of list A that are also in list B. A: {listed(a)}. B: {listed(b)}.",
    ]
    steps = [f"{item}: {'yes' if item in b else 'no'}" for item in a]
    return Task(wordings, steps, listed(items[:shared]), sorted((sorted(a), sorted(b))))


@family("lists", "number")
def mean(rng: Random, difficulty: int) -> Task:
    """Averages: of three numbers below 20; of four below 40; of five below 60."""
    n, top = by_level(difficulty, (3, 19), (4, 39), (5, 59))
    numbers = such_that(
        lambda: [rng.randint(2, top) for _ in range(n)], lambda drawn: sum(drawn) % n == 0
    )
    shown, total = listed(numbers), sum(numbers)
    wordings = [
        f"What is the mean of {shown}?",
        f"Find the average of {shown}.",
        f"Calculate the mean of these numbers: {shown}",
        f"Give the arithmetic mean of {shown}.",
    ]
    steps = [*running_sum(numbers), f"{total} / {n} = {total // n}"]
    return Task(wordings, steps, str(total // n), sorted(numbers))


# --------------------------------------------------------------------------------------------------
# Logic

COMPARISONS = [
    words("taller shorter tallest shortest"),
    words("older younger oldest youngest"),
    words("faster slower fastest slowest"),
    words("heavier lighter heaviest lightest"),
]


@family("logic", "exact")
def comparing_people(rng: Random, difficulty: int) -> Task:
    """Who is the tallest, and the like: three people; four, out of order; four, both ways round."""
    more, less, most, least = rng.choice(COMPARISONS)
    people = rng.sample(NAMES, by_level(difficulty, 3, 4, 4))
    clues = [
        f"{b} is {less} than {a}"
        if difficulty == 3 and rng.random() < 0.5
        else f"{a} is {more} than {b}"
        for a, b in pairwise(people)
    ]
    if difficulty > 1:
        rng.shuffle(clues)
    asked = [(most, people[0]), (least, people[-1]), (f"second {most}", people[1])]
    wanted, answer = rng.choice(asked if difficulty == 3 else asked[:2])
    sentences, clauses = ". ".join(clues), f"{listed(clues[:-1])} and {clues[-1]}"
    wordings = [
        f"{sentences}. Who is the {wanted}?",
        f"{sentences}. Which of them is the {wanted}?",
        f"If {clauses}, who is the {wanted}?",
        f"Given that {clauses}, who is the {wanted}?",
    ]
    return Task(wordings, [f"From {most} to {least}: {listed(people)}"], answer, (people, wanted))


@family("logic", "exact")
def odd_one_out(rng: Random, difficulty: int) -> Task:
    """The word of another kind: among four; among five; among six of two kinds close together."""
    kind, other = rng.sample(rng.choice(CLOSE_KINDS) if difficulty == 3 else list(KINDS), 2)
    odd = rng.choice(KINDS[other])
    items = [*rng.sample(KINDS[kind], difficulty + 2), odd]
    rng.shuffle(items)
    wordings = [
        f"Which is the odd one out: {listed(items)}?",
        f"Which word does not belong: {listed(items)}?",
        f"Find the odd one out in this list: {listed(items)}",
        f"One of these is of a different kind: {listed(items)}. Which one?",
    ]
    steps = [f"{item}: {other if item == odd else kind}" for item in items]
    return Task(wordings, steps, odd, sorted(items))


COMPASS = words("north east south west")
QUARTER_TURNS = {"right": 1, "around": 2, "left": 3}


@family("logic", "exact")
def turning(rng: Random, difficulty: int) -> Task:
    """Quarter and half turns on the compass: three turns; four; five."""
    facing = start = rng.choice(COMPASS)
    turns = [rng.choice(list(QUARTER_TURNS)) for _ in range(difficulty + 2)]
    steps, path, name = [], ", then ".join(turns), rng.choice(NAMES)
    for turn in turns:
        turned = COMPASS[(COMPASS.index(facing) + QUARTER_TURNS[turn]) % 4]
        steps.append(f"{facing}, turn {turn}: {turned}")
        facing = turned
    wordings = [
        f"You face {start} and turn {path}. Which way do you face now?",
        f"{name} faces {start} and turns {path}. Which way does {name} face now?",
        f"A robot points {start}. It turns {path}. Which way does it point at the end?",
        f"Start facing {start}. Turn {path}. In which direction do you end up facing?",
    ]
    return Task(wordings, steps, facing, (start, turns))


# --------------------------------------------------------------------------------------------------
# Dates and time


@family("dates-time", "exact")
def months_later(rng: Random, difficulty: int) -> Task:
    """Months counted on: within the year; into the next; back, into the one before."""

    def fits(drawn: tuple[int, int]) -> bool:
        month, k = drawn
        return by_level(difficulty, month + k <= 12, month + k > 12, month <= k)

    month, k = such_that(lambda: (rng.randint(1, 12), rng.randint(1, 11)), fits)
    sign, where, back = by_level(
        difficulty, ("+", "after", ""), ("+", "after", "-"), ("-", "before", "+")
    )
    end = OPERATIONS[sign](month, k)
    start, answer = MONTHS[month - 1], MONTHS[(end - 1) % 12]
    span = f"{count(k, 'months')} {where} {start}"
    wordings = [
        f"Which month is {span}?",
        f"What month comes {span}?",
        f"Name the month {span}.",
        f"Tell me which month it is {span}.",
    ]
    steps = [f"{start} is month {month}.", f"{month} {sign} {k} = {end}"]
    steps += [f"{end} {back} 12 = {OPERATIONS[back](end, 12)}"] if back else []
    steps.append(f"Month {(end - 1) % 12 + 1} is {answer}.")
    return Task(wordings, steps, answer, (month, k, where))


@family("dates-time", "exact")
def weekdays(rng: Random, difficulty: int) -> Task:
    """Days of the week counted on: up to 13 days; up to 60; back, up to 40."""
    low, high = by_level(difficulty, (2, 13), (15, 60), (8, 40))
    k = such_that(lambda: rng.randint(low, high), lambda drawn: drawn % 7 > 0)
    weeks, rest = divmod(k, 7)
    if difficulty < 3:
        where, tense, when, move = "after", "will it be", f"in {k} days", rest
    else:
        where, tense, when, move = "before", "was it", f"{k} days ago", -rest
    day = rng.choice(WEEKDAYS)
    answer = WEEKDAYS[(WEEKDAYS.index(day) + move) % 7]
    wordings = [
        f"Today is {day}. What day of the week {tense} {when}?",
        f"It is {day}. Which weekday {tense} {when}?",
        f"Which day of the week comes {k} days {where} a {day}?",
        f"If today is {day}, what day {tense} {when}?",
    ]
    steps = [f"7 * {weeks} = {7 * weeks}", f"{k} - {7 * weeks} = {rest}"] if weeks else []
    steps.append(f"{count(rest, 'days')} {where} {day} is {answer}.")
    return Task(wordings, steps, answer, (day, k, where))


@family("dates-time", "exact")
def end_time(rng: Random, difficulty: int) -> Task:
    """When something ends: within the hour; in the next hour; after hours and minutes."""
    hour, hours = rng.randint(7, 18), by_level(difficulty, 0, 0, rng.randint(1, 3))
    minute, minutes = such_that(
        lambda: (5 * rng.randint(1, 11), 5 * rng.randint(1, 11)),
        lambda drawn: (sum(drawn) >= 60) == (difficulty > 1),
    )
    carry, rest = divmod(minute + minutes, 60)
    event = rng.choice(words("concert film game lesson match meeting party play show talk"))
    start, end = (f"{h:02d}:{m:02d}" for h, m in ((hour, minute), (hour + hours + carry, rest)))
    length = f"{count(hours, 'hours')} and {minutes} minutes" if hours else f"{minutes} minutes"
    wordings = [
        f"A {event} starts at {start} and lasts {length}. When does it end?",
        f"A {event} begins at {start}. It takes {length}. At what time is it over?",
        f"It is {start}. A {event} of {length} starts now. When will it be over?",
        f"If a {event} of {length} starts at {start}, at what time does it finish?",
    ]
    steps = [f"Hours: {hour} + {hours} = {hour + hours}"] if hours else []
    steps.append(f"Minutes: {minute} + {minutes} = {minute + minutes}")
    if carry:
        steps.append(f"Minutes: {minute + minutes} - 60 = {rest}")
        steps.append(f"Hours: {hour + hours} + 1 = {hour + hours + 1}")
    return Task(wordings, steps, end, (start, hours, minutes))


# --------------------------------------------------------------------------------------------------
# Word problems


@family("word-problems", "number")
def change(rng: Random, difficulty: int) -> Task:
    """Change from a bill: one thing bought; two things; two things with prices in cents."""

    def price() -> Decimal:
        low, high, exponent = by_level(difficulty, (2, 49, 0), (2, 49, 0), (125, 995, -2))
        return Decimal(rng.randint(low, high)).scaleb(exponent)

    goods = rng.sample(words("bag book cap clock game kite lamp mug plant puzzle scarf toy"), 2)
    prices = [price() for _ in range(by_level(difficulty, 1, 2, 2))]
    total, name = sum(prices, Decimal(0)), rng.choice(NAMES)
    bill = rng.choice([bill for bill in (10, 20, 50, 100) if bill > total][:2])
    bought = " and ".join(f"a {g} for ${p}" for g, p in zip(goods, prices, strict=False))
    wordings = [
        f"{name} buys {bought} and pays with ${bill}. How many dollars of change are due?",
        f"{name} gets {bought}, paying with a ${bill} bill. How much change is that, in dollars?",
        f"With a ${bill} bill, {name} buys {bought}. How many dollars come back?",
        f"How much change, in dollars, does {name} get from ${bill} after buying {bought}?",
    ]
    steps = [*running_sum(prices), f"{bill} - {total} = {bill - total}"]
    return Task(wordings, steps, str(bill - total), (sorted(prices), bill))


@family("word-problems", "number")
def buying_and_sharing(rng: Random, difficulty: int) -> Task:
    """Things that come and go: some more, some away; more in bags; bags, and all shared out."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    a, b, c, friends = such_that(
        lambda: (rng.randint(10, 40), *(rng.randint(2, 9) for _ in range(3))),
        lambda drawn: difficulty < 3 or (drawn[0] + drawn[1] * drawn[2]) % drawn[3] == 0,
    )
    total = a + b * c
    steps = [f"{b} * {c} = {b * c}", f"{a} + {b * c} = {total}"]
    if difficulty == 1:
        deal, question, answer = f"gets {b} more and gives {c} away", "are left", a + b - c
        steps = [f"{a} + {b} = {a + b}", f"{a + b} - {c} = {answer}"]
    elif difficulty == 2:
        deal, question, answer = f"buys {b} bags of {c}", "is that in all", total
    else:
        deal = f"buys {b} bags of {c} and shares them all equally among {friends} friends"
        question, answer = "does each friend get", total // friends
        steps.append(f"{total} / {friends} = {answer}")
    wordings = [
        f"{name} has {a} {things}, then {deal}. How many {things} {question}?",
        f"{name} starts with {a} {things}. Then {name} {deal}. How many {things} {question}?",
        f"With {a} {things} in a box, {name} {deal}. How many {things} {question}?",
        f"{a} {things} belong to {name}, who {deal}. How many {things} {question}?",
    ]
    key = (difficulty, a, b, c, *([friends] if difficulty == 3 else []))
    return Task(wordings, steps, str(answer), key)


VEHICLES = {
    "cyclist": range(12, 25, 2),
    "bus": range(30, 61, 5),
    "car": range(50, 96, 5),
    "train": range(80, 161, 10),
}


@family("word-problems", "number")
def travel(rng: Random, difficulty: int) -> Task:
    """Distances from speeds and times: one leg; two legs; three legs."""
    vehicle = rng.choice(list(VEHICLES))
    legs = [(v, rng.randint(2, 9)) for v in rng.sample(VEHICLES[vehicle], difficulty)]
    route = ", then ".join(f"{hours} hours at {speed} km per hour" for speed, hours in legs)
    wordings = [
        f"A {vehicle} goes for {route}. How many km is that?",
        f"How many km does a {vehicle} cover in {route}?",
        f"A {vehicle} travels for {route}. Find the distance in km.",
        f"How far, in km, does a {vehicle} get in {route}?",
    ]
    distances = [speed * hours for speed, hours in legs]
    steps = [f"{v} * {hours} = {km}" for (v, hours), km in zip(legs, distances, strict=True)]
    return Task(wordings, steps + running_sum(distances), str(sum(distances)), sorted(legs))


# --------------------------------------------------------------------------------------------------
# Geometry and units


@family("geometry-units", "number")
def rectangles(rng: Random, difficulty: int) -> Task:
    """Sides of a rectangle: the area; the perimeter; the width that a perimeter leaves."""
    shape, unit = rng.choice([("card", "cm"), ("poster", "cm"), ("field", "m"), ("garden", "m")])
    width, length = sorted(rng.sample(range(2, by_level(difficulty, 15, 40, 40)), 2))
    half, area, sides = length + width, length * width, f"{length} {unit} by {width} {unit}"
    known, wanted, answer, steps = by_level(
        difficulty,
        (sides, f"area in square {unit}", area, [f"{length} * {width} = {area}"]),
        (
            sides,
            f"perimeter in {unit}",
            2 * half,
            [f"{length} + {width} = {half}", f"2 * {half} = {2 * half}"],
        ),
        (
            f"{length} {unit} long and has a perimeter of {2 * half} {unit}",
            f"width in {unit}",
            width,
            [f"{2 * half} / 2 = {half}", f"{half} - {length} = {width}"],
        ),
    )
    wordings = [
        f"A rectangular {shape} is {known}. What is its {wanted}?",
        f"Find the {wanted} of a rectangular {shape} that is {known}.",
        f"A {shape} in the shape of a rectangle is {known}. Give its {wanted}.",
        f"If a rectangular {shape} is {known}, what is its {wanted}?",
    ]
    return Task(wordings, steps, str(answer), (difficulty, length, width))


METRIC = [
    ("km", "m", 1000),
    ("kg", "g", 1000),
    ("L", "mL", 1000),
    ("m", "cm", 100),
    ("cm", "mm", 10),
]
CALENDAR = [("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24)]


@family("geometry-units", "number")
def unit_conversion(rng: Random, difficulty: int) -> Task:
    """Units converted: to a smaller unit; two units to the smaller one; two to the larger one."""
    large, small, factor = rng.choice(METRIC if difficulty == 3 else METRIC + CALENDAR)
    n, part = rng.randint(2, by_level(difficulty, 20, 12, 12)), rng.randint(1, 9)
    rest = by_level(difficulty, 0, max(1, factor // 20) * part, factor // 10 * part)
    steps = [f"1 {large.removesuffix('s')} = {factor} {small}"]
    given = count(n, large) + (f" and {count(rest, small)}" if rest else "")
    if difficulty < 3:
        unit, answer = small, str(n * factor + rest)
        steps.append(f"{n} * {factor} = {n * factor}")
        steps += [f"{n * factor} + {rest} = {answer}"] if rest else []
    else:
        unit, answer = large, f"{n}.{part}"
        steps += [f"{rest} / {factor} = 0.{part}", f"{n} + 0.{part} = {answer}"]
    wordings = [
        f"How many {unit} are {given}?",
        f"Convert {given} to {unit}.",
        f"Express {given} in {unit}.",
        f"What is {given} in {unit}?",
    ]
    return Task(wordings, steps, answer, (given, unit))


# --------------------------------------------------------------------------------------------------
# Rows


def rows_of(family: Family, splits: Sequence[str]) -> list[Row]:
    """Generate a family's rows: no key twice, and each level once in every three rows."""
    rng = Random(SEED + zlib.crc32(family.name.encode()))
    seen: list[object] = []
    levels: list[int] = []
    rows: list[Row] = []
    for number, split in enumerate(splits):
        levels = levels or rng.sample((1, 2, 3), 3)
        difficulty = levels.pop()
        task = unseen_task(family, difficulty, rng, seen)
        seen.append(task.key)
        rows.append(
            {
                "id": f"{family.name}-{number:04d}",
                "prompt": rng.choice(task.wordings),
                "response": task.response,
                "answer": task.answer,
                "category": family.category,
                "family": family.name,
                "difficulty": difficulty,
                "verifier": family.verifier,
                "split": split,
                "source": "mnskills_viz demo",
                "license": "Apache-2.0",
            }
        )
    return rows


def unseen_task(family: Family, difficulty: int, rng: Random, seen: Sequence[object]) -> Task:
    """Draw a task with a key of its own."""
    return such_that(lambda: family.generate(rng, difficulty), lambda task: task.key not in seen)


def fair_order(rows_by_family: Iterable[Sequence[Row]], rng: Random) -> list[Row]:
    """Take one row of every family, in random order, again and again: any prefix is a fair mix."""
    ordered: list[Row] = []
    for taken in zip_longest(*rows_by_family):
        rows = [row for row in taken if row is not None]
        rng.shuffle(rows)
        ordered += rows
    return ordered


def demo_corpus() -> list[Row]:
    """Build all rows: the pool, then the probe split, then the test split."""
    splits = [split for split, n_rows in SPLITS.items() for _ in range(n_rows)]
    by_family = [rows_of(family, splits[i :: len(FAMILIES)]) for i, family in enumerate(FAMILIES)]
    rng = Random(SEED)
    ordered: list[Row] = []
    for split in SPLITS:
        ordered += fair_order([[r for r in rows if r["split"] == split] for rows in by_family], rng)
    return ordered


# --------------------------------------------------------------------------------------------------
# Files


def jsonl(rows: Iterable[Row]) -> str:
    """Write rows as compact lines of JSON."""
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    return "".join(f"{line}\n" for line in lines)


def families_table(rows: Sequence[Row]) -> str:
    """Describe every family in a line of Markdown, with its first row as the example."""
    lines = [
        f"| family | category | task: level 1; 2; 3 | {' | '.join(SPLITS)} | verifier | example |",
        f"|---|---|---|{'--:|' * len(SPLITS)}---|---|",
    ]
    for family in FAMILIES:
        mine = [row for row in rows if row["family"] == family.name]
        counts = " | ".join(str(sum(row["split"] == split for row in mine)) for split in SPLITS)
        about = (family.generate.__doc__ or "").rstrip(".")
        example = f"`{mine[0]['prompt']}` → `{mine[0]['answer']}`"
        cells = (family.name, family.category, about, counts, family.verifier, example)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(card: str, table: str) -> str:
    """Put the table between the two marks of the card."""
    before, rest = card.split(TABLE_MARKS[0])
    _, after = rest.split(TABLE_MARKS[1])
    return f"{before}{TABLE_MARKS[0]}\n\n{table}\n\n{TABLE_MARKS[1]}{after}"


def write(path: Path, text: str) -> None:
    """Write beside the file, then rename into place."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(text.encode())
    os.replace(part, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Build the demo corpus.")
    parser.add_argument("--out", type=Path, default=CORPUS, help="the corpus (%(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    parser.add_argument("--card", action="store_true", help="write the data card's table as well")
    options = parser.parse_args(arguments)

    rows = demo_corpus()
    text = jsonl(rows)
    if options.check:
        same = options.out.is_file() and options.out.read_bytes() == text.encode()
        print(f"{options.out} is {'up to date' if same else 'not what would be written'}")
        return 0 if same else 1
    write(options.out, text)
    if options.card:
        write(CARD, with_table(CARD.read_text(encoding="utf-8"), families_table(rows)))
    print(f"{options.out}: {len(rows):,} rows, {len(text.encode()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

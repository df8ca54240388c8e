"""What responses answer, in the styles that models really write, and when two answers are the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.episodes.answers import agreement_classes, asks_for_number, extract_answer, normalise

HOW_MANY = "Tom has 3 apples and buys 4 more. How many apples does he have?"

RESPONSES = [
    # boxed
    (r"So the total is $\boxed{20}$", "20"),
    (r"First $\boxed{1}$, but checking again: \[\boxed{-2}\]", "-2"),
    (r"\boxed{\frac{3}{4}}", "0.75"),
    (r"\boxed{\dfrac{\sqrt{2}}{3}}", r"\frac{\sqrt{2}}{3}"),
    (r"Thus $x = \boxed{\text{(C)}}$.", "C"),
    (r"The sets are $\boxed{\{1, 2\}}$", r"\{1,2\}"),
    (r"$\boxed 7$", "7"),
    (r"\fbox{12} is what we want, \boxed{12\%}", "12"),
    (r"We get \boxed{1{,}024}", "1024"),
    (r"\boxed{x^{2} + 1}", "x^2+1"),
    # JSON with an answer field
    ('{"reasoning": "2 + 2", "answer": "4"}', "4"),
    ('```json\n{\n  "reasoning": "...",\n  "answer": "$120"\n}\n```', "120"),
    ('Here is the solution:\n\n```json\n{"reasoning": "r", "answer": 17.50}\n```\nHope it helps!', "17.5"),
    ('{"reasoning": "the box is $\\boxed{3}$", "answer": "2"}', "2"),
    ('{"answer": "B", "reasoning": "cut off in the mid', "B"),
    ('{"reasoning": "x", "answer": "1,08', "1,08"),
    ('{"reasoning": "x", "answer": [1, 2, 3]}', "[1,2,3]"),
    ('{"reasoning": "x", "answer": "[1,2,3]"}', "[1,2,3]"),
    ('{"answer": "\'abc def\'"}', "abc def"),
    ('{"answer": "\\"QdhStudent\\""}', "QdhStudent"),
    ('{"answer": true}', "true"),
    ("{'answer': 'Paris'}", "paris"),
    ('{"final_answer": "12 m"}', "12 m"),
    ('{"reasoning": "a", "answer": "\\frac{1}{2}"}', "0.5"),
    # phrases
    ("She pays 3 * 6 = 18.\n#### 18", "18"),
    ("#### 1,250", "1250"),
    ("The answer is 42.", "42"),
    ("Therefore, the answer is $1,234.00.", "1234"),
    ("The final answer is: **7**", "7"),
    ("After some thought, the correct answer is (D) because light is a wave.", "D"),
    ("The answer is C", "C"),
    ("The answer is **B**.", "B"),
    ("Answer: J", "J"),
    ("**Answer:** (E) mitochondria", "E"),
    ("Answer: Paris\nIt lies on the Seine.", "paris"),
    ("Final Answer: 3/4", "0.75"),
    ("The answer is 3. No, wait, the answer is 4.", "4"),
    ("Let's think step by step. Osmosis moves water. The answer is (F).", "F"),
    ("The correct option is (A).", "A"),
    ("The answer is A. muscle cells", "A"),
    ("the answer is A new hope", "a new hope"),
    ("Answer:\n12", "12"),
    # option letters
    ("(C)", "C"),
    ("C", "C"),
    ("C.", "C"),
    ("B) photosynthesis", "B"),
    ("We compare all of them.\n\n(G)", "G"),
    ("**H**", "H"),
    # short text
    ("Paris", "paris"),
    ("paris.", "paris"),
    ("42", "42"),
    ("18 dollars", "18"),
    ("tHis and cpanel", "tHis and cpanel"),
    ("No", "no"),
    # a conclusion with a number at its end
    ("She had 3 and got 4. So she has 3 + 4 = 7 apples.", "7"),
    # tool calls as text
    ("[get_weather(city='Paris', days=2)]", '[{"arguments":{"city":"Paris","days":2},"name":"get_weather"}]'),
    (
        '<tool_call>\n{"name": "f", "arguments": {"b": 1, "a": 2}}\n</tool_call>',
        '[{"arguments":{"a":2,"b":1},"name":"f"}]',
    ),
    ('[{"f": "{\\"a\\": 1}"}]', '[{"arguments":{"a":1},"name":"f"}]'),
    ("```python\n[f(a=1.0)]\n```", '[{"arguments":{"a":1},"name":"f"}]'),
    # nothing to be found
    ("", None),
    ("   \n", None),
    (
        "The tower was begun in 1173 and stood unfinished for a century, for reasons that historians still dispute.",
        None,
    ),
    (
        "I am sorry, but I cannot help with that request because the details given are not enough to go on.",
        None,
    ),
]


@pytest.mark.parametrize(("text", "expected"), RESPONSES)
def test_what_a_response_answers(text: str, expected: str | None) -> None:
    answer = extract_answer(text)
    assert (None if answer is None else normalise(answer)) == expected


def test_there_are_enough_styles() -> None:
    assert len(RESPONSES) >= 60


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        (HOW_MANY, "He starts with 3 apples, then 4 more arrive, which leaves him with 7 apples", "7"),
        (HOW_MANY, "7 apples", "7"),
        (
            "Who built it, and when?",
            "Bonanno began it in 1173, and so the count of years since is large.",
            None,
        ),
        ("Compute 3 + 4.", "Adding the two gives -1,007.5", "-1,007.5"),
    ],
)
def test_the_last_number_answers_a_numeric_question(question: str, text: str, expected: str | None) -> None:
    assert extract_answer(text, question=question) == expected


@pytest.mark.parametrize(
    ("question", "numeric"),
    [
        (HOW_MANY, True),
        ("What is the total number of legs?", True),
        ("Compute the area.", True),
        ("12 * 4 = ?", True),
        ("Write a poem about the sea.", False),
        ("Which option is right?", False),
    ],
)
def test_asks_for_number(question: str, numeric: bool) -> None:
    assert asks_for_number(question) is numeric


def tool_call(name: str, arguments: object) -> dict[str, object]:
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tool_calls_are_compared_by_name_and_arguments_in_any_order() -> None:
    one = [tool_call("f", '{"a": 1, "b": [1, 2]}'), tool_call("g", "{}")]
    other = [tool_call("g", None), tool_call("f", '{"b":[1,2],"a":1.0}')]
    assert extract_answer("", one) == extract_answer("text is ignored", other)
    assert extract_answer("", one) != extract_answer(
        "", [tool_call("f", '{"a": 2, "b": [1, 2]}'), tool_call("g", "{}")]
    )


def test_tool_calls_with_broken_arguments_still_compare() -> None:
    broken = [tool_call("f", '{"a": ')]
    assert extract_answer("", broken) == extract_answer("", list(broken))
    assert extract_answer("", broken) is not None


@pytest.mark.parametrize(
    "spellings",
    [
        ["1234", "$1,234.00", "1,234", " 1234. ", "**1234**", r"\$1234", "1234.0", "1.234e3"],
        ["1/2", r"\frac{1}{2}", r"$\dfrac{1}{2}$", r"\frac12", "0.50", ".5", r"\left( \frac{1}{2}"[7:]],
        ["50%", r"50\%", "50 %", "50"],
        ["-3", "−3", "$-3$", r"\(-3\)"],
        ["1/3", "2/6", r"\frac{1}{3}"],
        ["120", r"120^\circ", r"$120^{\circ}$", "120 degrees", "120°"],
        ["Paris", "paris", "Paris.", r"\text{Paris}", "'Paris'", "`Paris`"],
        ["C", "(C)", "c)", "[C]", "C.", "Option C"],
        ["[1,2, 3]", "[1, 2, 3]", "[ 1,2,3 ]"],
        ['{"a": 1, "b": [2]}', "{'a': 1, 'b': [2]}"],
        ["1, 2, 3", "1,2, 3"],
        [r"\left(3, \frac{\pi}{2}\right)", r"(3,\dfrac{\pi}{2})", r"(3, \frac{\pi}{2})"],
        ["True", "true"],
        ["x = 5", "5"],
        [r"1\frac{1}{2}", "1.5"],
    ],
)
def test_equal_answers_are_equal_strings(spellings: list[str]) -> None:
    spellings = [
        spelling for spelling in spellings if spelling.count("(") == spelling.count(")") or ")" in spelling
    ]
    assert len({normalise(spelling) for spelling in spellings}) == 1, [normalise(s) for s in spellings]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"),
        ("2 million", "2"),
        ("5 or 6", "5"),
        ("(1, 2)", "[1, 2]"),
        ("1/3", "0.333"),
        ("tHis", "this"),
        ("2:00 pm", "2"),
        ("10_b", "10"),
        ("-1", "1"),
        ("1/0", "1"),
        ("['a']", "['A']"),
    ],
)
def test_different_answers_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(alphabet=" \"{}[]()\\$.,:*#`'answerboxedA1/frac\n", max_size=60))
def test_no_text_breaks_the_extraction(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or (isinstance(answer, str) and isinstance(normalise(answer), str))


@given(st.integers(-(10**9), 10**9), st.integers(1, 1000))
def test_every_spelling_of_a_rational_is_one(numerator: int, denominator: int) -> None:
    assert normalise(f"{numerator}/{denominator}") == normalise(rf"\frac{{{numerator}}}{{{denominator}}}")
    assert normalise(f"{numerator:,}") == str(numerator)


def test_a_long_text_is_read_in_time_linear_enough() -> None:
    text = "the answer is " * 3000 + "\\boxed{" * 2000 + '"answer": ' * 2000
    extract_answer(text)


def test_agreement_classes_number_answers_as_they_appear() -> None:
    assert agreement_classes(["7", None, "8", "7", None, ""]) == [0, -1, 1, 0, -1, 2]
    assert agreement_classes([]) == []


def test_a_json_object_answer_is_canonical() -> None:
    answer = extract_answer('{"answer": {"b": 1, "a": [1, 2]}}')
    assert answer is not None
    assert json.loads(normalise(answer)) == {"b": 1, "a": [1, 2]}

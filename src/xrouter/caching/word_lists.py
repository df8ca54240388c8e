"""English words that turn the meaning of a message, for `wording`."""

# ruff: noqa: SIM905 - words in a line read better than a list of strings

from __future__ import annotations

CASED = frozenset("amazon apple august chile china jordan march may polish turkey".split())
"""Words that their capital turns into another word."""

NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "dozen": "12",
    "half": "1/2", "third": "1/3", "quarter": "1/4", "once": "1x", "twice": "2x", "double": "2x", "triple": "3x",
    "first": "1.", "second": "2.", "single": "1", "both": "2", "pair": "2",
}  # fmt: skip
NEGATIONS = frozenset(
    "not no never none nobody nothing neither nor nowhere without except unless hardly barely cannot isnt "
    "dont doesnt cant wont lack lacks lacking fail fails failed avoid stop instead rather".split()
)
TURNING_PREFIXES = (
    *(("", prefix) for prefix in ("un", "in", "im", "il", "ir", "dis", "de", "non", "anti", "mis", "a")),
    *(("en", "dis"), ("en", "de"), ("in", "ex"), ("in", "de"), ("in", "out"), ("pre", "post"), ("over", "under"), ("up", "down")),
)  # fmt: skip
"""(beginning, beginning of the opposite)."""
TURNING_SUFFIXES = (("", "less"), ("", "free"), ("ful", "less"))
OPPOSITES = (
    "before after", "more less", "most least", "maximum minimum", "max min", "increase decrease", "true false", "high low",
    "highest lowest", "largest smallest", "big small", "good bad", "best worst", "pros cons", "advantages disadvantages",
    "buy sell", "open closed", "open close", "start end", "begin end", "first last", "left right", "up down", "hot cold",
    "to from", "above below", "over under", "in out", "on off", "always sometimes", "all some", "past future", "male female",
    "men women", "boys girls", "his her", "he she", "win lose", "won lost", "import export", "add remove", "input output",
    "encrypt decrypt", "encode decode", "upload download", "safe dangerous", "hypo hyper", "i you", "my your", "older younger",
    "oldest youngest", "longest shortest", "long short", "fast slow", "early late", "rise fall", "love hate", "north south",
    "east west", "ascending descending", "push pull", "allow forbid", "accept reject", "here there", "must may", "can must",
    "should could", "day night", "today tomorrow", "today yesterday", "positive negative", "even odd", "plus minus",
    "multiply divide", "sum difference", "cause effect", "mother father", "son daughter", "husband wife",
)  # fmt: skip
OTHER_SIDE: dict[str, frozenset[str]] = {
    word: frozenset(
        other for pair in OPPOSITES if word in pair.split() for other in pair.split() if other != word
    )
    for word in {word for pair in OPPOSITES for word in pair.split()}
}

"""Pairs of messages that look alike: some ask the same, most do not."""

from __future__ import annotations

LETTER = (
    ", keeping the tone formal and every paragraph where it is, and leave the names as they are. Dear Sir, I write "
    "to you about the order of last week, which has not arrived so far, although it was promised"
)

SAME = (
    ("What is the capital of France?", "what's the capital of France"),
    ("What is the capital of France?", "What is the capital of France"),
    ("How do I reverse a list in Python?", "how do I reverse a list in Python, please?"),
    ("Explain photosynthesis to a child.", "Could you please explain photosynthesis to a child?"),
    ("Write a haiku about the sea", "Please write a haiku about the sea. Thanks!"),
    ("Hi, tell me who wrote Hamlet", "Who wrote Hamlet?"),
    ("How many seconds are in 1,000 days?", "how many seconds are in 1000 days"),
    ("Why doesn't water burn?", "why does not water burn?"),
)

OTHER_WORDS = (
    ("Which city is the capital of France?", "What is the capital of France?"),
    ("Who is the author of Hamlet?", "Who wrote Hamlet?"),
    ("Give me a summary of the plot of Dune", "Summarise the plot of Dune"),
    ("How can I sort a list in Python?", "What is the way to sort a list in Python?"),
)
"""The same in other words: only an embedding can tell."""

DIFFERENT = (
    ("What is 15% of 80?", "What is 15% of 90?"),
    ("What is 15% of 80?", "What is 80% of 15?"),
    ("What is 1.5 plus 2?", "What is 15 plus 2?"),
    ("What is -5 plus 2?", "What is 5 plus 2?"),
    ("Name three rivers of Spain", "Name four rivers of Spain"),
    ("Name the first president of Chile", "Name the second president of Chile"),
    ("Is 2024 a leap year?", "Is 2023 a leap year?"),
    ("How tall is a dozen coins?", "How tall is a hundred coins?"),
    ("Is it legal to record calls in Spain?", "Is it illegal to record calls in Spain?"),
    ("Is this mushroom edible?", "Is this mushroom inedible?"),
    ("Why is it possible to divide by zero?", "Why is it impossible to divide by zero?"),
    ("List drugs that are harmful", "List drugs that are harmless"),
    ("Which animals can fly?", "Which animals cannot fly?"),
    ("Which animals can fly?", "Which animals can't fly?"),
    ("Does aspirin thin blood?", "Doesn't aspirin thin blood?"),
    ("Recipes with nuts", "Recipes without nuts"),
    ("Who should get the vaccine?", "Who should never get the vaccine?"),
    ("Should I stop taking the pills?", "Should I start taking the pills?"),
    ("How do I enable logging?", "How do I disable logging?"),
    ("How do I install the driver?", "How do I uninstall the driver?"),
    ("Should I eat before surgery?", "Should I eat after surgery?"),
    ("What is the largest planet?", "What is the smallest planet?"),
    ("Find the maximum of the series", "Find the minimum of the series"),
    ("What are the pros of nuclear power?", "What are the cons of nuclear power?"),
    ("Sort the names ascending", "Sort the names descending"),
    ("When should I buy shares?", "When should I sell shares?"),
    ("flights from Oslo to Rome", "flights from Rome to Oslo"),
    ("Does Ada owe Bob money?", "Does Bob owe Ada money?"),
    ("What happened in Iran in 1980?", "What happened in Iraq in 1980?"),
    ("Translate this letter to French" + LETTER, "Translate this letter to German" + LETTER),
    ("Translate 'good morning' into French", "Translate 'good evening' into French"),
    ("Translate 'the cat' into French", "Translate 'cat' into French"),
    ('Is "abc" upper case?', 'Is "ABC" upper case?'),
    ("Translate into French: thank you, please", "Translate into French: thank you"),
    ("What does `a == b` do in C?", "What does `a = b` do in C?"),
    ("Fix x=1\nif x:\n  y=2", "Fix x=1\nif x:\ny=2"),
    ("How do I learn C++?", "How do I learn C#?"),
    ("How do I learn C?", "How do I learn R?"),
    ("What is vitamin A good for?", "What is vitamin B good for?"),
    ("What did the US say?", "What did the UK say?"),
    ("How do I polish the table?", "How do I Polish the table?"),
    ("Why does WHO matter?", "Why does who matter?"),
)
"""One word, sign or digit apart, and another question."""

ONE_WORD_OF_MANY = (
    ("Write a long story about a dog" + LETTER, "Write a long story about a cat" + LETTER),
    ("A few people came, why?", "Few people came, why?"),
    ("Can I mix bleach and water?", "Can I mix bleach and ammonia?"),
)
"""Another question that only plain words tell apart; an embedding has to."""

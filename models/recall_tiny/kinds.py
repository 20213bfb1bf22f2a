"""The kinds of facts the model is trained on: what is told about things and dates."""

from __future__ import annotations

from . import words as w
from .facts import Ask, Kind
from .words import Words


def _of(words: list[str]):  # type: ignore[no-untyped-def]
    return lambda filler: filler.pick(words)


def _open(words: list[str]):  # type: ignore[no-untyped-def]
    return lambda filler: filler.open(words)


THINGS: tuple[Kind, ...] = (
    Kind(
        "code",
        {"k": _of(w.LOCKS), "v": Words.code},
        ("k",),
        "the code of my {k}",
        (
            "The code of my {k} is {v}.",
            "My {k} code is {v}.",
            "The code for the {k} is {v}.",
            "The {k} opens with {v}.",
            "I changed the code of my {k} to {v}.",
            "{v} is the code of my {k}.",
        ),
        ("My {k} has the code {v}.", "To open the {k} you type {v}."),
        (
            Ask(
                "The code of your {k} is {v}.",
                (
                    "What is the code of my {k}?",
                    "What's my {k} code?",
                    "Which code opens my {k}?",
                    "How do I open my {k}?",
                    "Can you tell me the code of my {k}?",
                    "What code does my {k} have?",
                    "What is the code for the {k}?",
                    "Do you know the {k} code?",
                ),
                ("Which code did I set for the {k}?", "I need the code of my {k}."),
            ),
        ),
    ),
    Kind(
        "appointment",
        {"k": _of(w.APPOINTMENTS), "v": Words.when},
        ("k",),
        "my {k} appointment",
        (
            "My {k} appointment is on {v}.",
            "The {k} appointment is on {v}.",
            "I have a {k} appointment on {v}.",
            "I have an appointment for the {k} on {v}.",
            "On {v} I have a {k} appointment.",
            "They moved my {k} appointment to {v}.",
        ),
        ("I booked a {k} appointment for {v}.", "My next {k} appointment will be on {v}."),
        (
            Ask(
                "Your {k} appointment is on {v}.",
                (
                    "When is my {k} appointment?",
                    "When's my {k} appointment?",
                    "What day is my {k} appointment?",
                    "On which day do I have the {k} appointment?",
                    "When do I have my {k} appointment?",
                    "What is the date of my {k} appointment?",
                    "Do you know when my {k} appointment is?",
                ),
                ("When do I have to go to my {k} appointment?", "Which date is the {k} appointment on?"),
            ),
        ),
    ),
    Kind(
        "event",
        {"k": _of(w.EVENTS), "v": Words.when},
        ("k",),
        "the {k}",
        (
            "The {k} is on {v}.",
            "The {k} takes place on {v}.",
            "I am going to a {k} on {v}.",
            "There is a {k} on {v}.",
            "The date of the {k} is {v}.",
            "They moved the {k} to {v}.",
        ),
        ("We have the {k} on {v}.", "The {k} will be on {v}."),
        (
            Ask(
                "The {k} is on {v}.",
                (
                    "When is the {k}?",
                    "When's the {k}?",
                    "What day is the {k}?",
                    "When does the {k} take place?",
                    "What is the date of the {k}?",
                    "On which day is the {k}?",
                    "Do you know when the {k} is?",
                ),
                ("When do I go to the {k}?", "Which date is the {k} on?"),
            ),
        ),
    ),
    Kind(
        "deadline",
        {"k": _of(w.DOCUMENTS), "v": Words.when},
        ("k",),
        "the {k}",
        (
            "The {k} is due on {v}.",
            "My {k} is due on {v}.",
            "I must hand in the {k} on {v}.",
            "The deadline of the {k} is {v}.",
            "The deadline for my {k} is {v}.",
        ),
        ("I have to finish the {k} by {v}.", "They want the {k} on {v}."),
        (
            Ask(
                "The {k} is due on {v}.",
                (
                    "When is the {k} due?",
                    "When is my {k} due?",
                    "What is the deadline of the {k}?",
                    "When must I hand in the {k}?",
                    "What's the deadline for my {k}?",
                    "On which day is the {k} due?",
                ),
                ("By when must the {k} be done?", "When is the deadline of my {k}?"),
            ),
        ),
    ),
    Kind(
        "number",
        {"k": _of(w.NUMBERED), "v": Words.code},
        ("k",),
        "my {k} number",
        (
            "My {k} number is {v}.",
            "The {k} number is {v}.",
            "{v} is my {k} number.",
            "I have {k} number {v}.",
            "I was given the {k} number {v}.",
        ),
        ("My {k} has the number {v}.", "The number of my {k} is {v}."),
        (
            Ask(
                "Your {k} number is {v}.",
                (
                    "What is my {k} number?",
                    "What's my {k} number?",
                    "Which {k} number do I have?",
                    "Can you tell me my {k} number?",
                    "What number is my {k}?",
                    "Do you know my {k} number?",
                    "What is the {k} number?",
                ),
                ("What is the number of my {k}?", "Which number does my {k} have?"),
            ),
        ),
    ),
    Kind(
        "place of a thing",
        {"k": _open(w.THINGS), "v": Words.spot},
        ("k",),
        "my {k}",
        (
            "My {k} is {v}.",
            "The {k} is {v}.",
            "I keep my {k} {v}.",
            "I put the {k} {v}.",
            "You find the {k} {v}.",
            "I left my {k} {v}.",
            "The {k} lies {v}.",
        ),
        ("I have hidden my {k} {v}.", "The place of my {k} is {v}."),
        (
            Ask(
                "Your {k} is {v}.",
                (
                    "Where is my {k}?",
                    "Where's my {k}?",
                    "Where do I keep my {k}?",
                    "Where did I put the {k}?",
                    "Where did I leave my {k}?",
                    "Where can I find my {k}?",
                    "Do you know where my {k} is?",
                    "Where is the {k}?",
                ),
                ("Where have I put my {k}?", "In which place is my {k}?"),
            ),
        ),
    ),
    Kind(
        "spare key",
        {"v": Words.spot},
        (),
        "the spare key",
        (
            "The spare key is {v}.",
            "The spare key lies {v}.",
            "I keep the spare key {v}.",
            "I put the spare key {v}.",
            "You find the spare key {v}.",
        ),
        ("I have hidden the spare key {v}.",),
        (
            Ask(
                "The spare key is {v}.",
                (
                    "Where is the spare key?",
                    "Where's my spare key?",
                    "Where do I keep the spare key?",
                    "Where did I put the spare key?",
                    "Where can I find the spare key?",
                ),
                ("Where have I put the spare key?",),
            ),
        ),
    ),
    Kind(
        "wifi",
        {"k": lambda x: x.rng.choice(("home", "cabin", "office", "guest", "hotel", "school")), "v": Words.code},
        ("k",),
        "the {k} wifi",
        (
            "The {k} wifi password is {v}.",
            "The password of the {k} wifi is {v}.",
            "Our {k} wifi has the password {v}.",
            "{v} is the password of the {k} wifi.",
        ),
        ("To use the {k} wifi you need the password {v}.",),
        (
            Ask(
                "The {k} wifi password is {v}.",
                (
                    "What is the {k} wifi password?",
                    "What's the password of the {k} wifi?",
                    "Which password does the {k} wifi have?",
                    "Can you tell me the {k} wifi password?",
                ),
                ("I need the {k} wifi password.", "What password do I need for the {k} wifi?"),
            ),
        ),
    ),
    Kind(
        "bought",
        {"k": _open(w.THINGS), "v": Words.year},
        ("k",),
        "buying the {k}",
        (
            "I bought the {k} in {v}.",
            "I bought my {k} in {v}.",
            "I have had my {k} since {v}.",
            "In {v} I bought a {k}.",
            "My {k} is from {v}.",
        ),
        ("The {k} I own was bought in {v}.",),
        (
            Ask(
                "You bought the {k} in {v}.",
                (
                    "When did I buy the {k}?",
                    "When did I buy my {k}?",
                    "In which year did I buy the {k}?",
                    "What year did I buy my {k}?",
                    "Since when do I have my {k}?",
                ),
                ("In what year have I bought the {k}?",),
            ),
        ),
    ),
    Kind(
        "cost",
        {"k": _open(w.THINGS), "v": Words.amount},
        ("k",),
        "the price of my {k}",
        (
            "My {k} cost {v} euros.",
            "I paid {v} euros for the {k}.",
            "The {k} cost me {v} euros.",
            "I bought a {k} for {v} euros.",
            "The price of my {k} was {v} euros.",
        ),
        ("For my {k} I had to pay {v} euros.",),
        (
            Ask(
                "Your {k} cost {v} euros.",
                (
                    "How much did my {k} cost?",
                    "What did my {k} cost?",
                    "How much did I pay for the {k}?",
                    "What did I pay for my {k}?",
                    "What was the price of the {k}?",
                ),
                ("How many euros did I pay for my {k}?", "How expensive was my {k}?"),
            ),
        ),
    ),
    Kind(
        "recipe",
        {"k": _of(w.CAKES), "n": Words.amount, "v": _open(w.FOODS)},
        ("k",),
        "the {k}",
        (
            "The {k} needs {n} grams of {v}.",
            "For the {k} you need {n} grams of {v}.",
            "My {k} recipe needs {n} grams of {v}.",
            "I put {n} grams of {v} in the {k}.",
        ),
        ("You take {n} grams of {v} for the {k}.",),
        (
            Ask(
                "The {k} needs {n} grams of {v}.",
                (
                    "What does the {k} need?",
                    "What do I need for the {k}?",
                    "What goes in the {k}?",
                    "How do I make the {k}?",
                    "What do I put in the {k}?",
                ),
                ("What is in my {k} recipe?",),
            ),
        ),
    ),
    Kind(
        "favourite",
        {
            "k": _of([c for c in w.CATEGORIES if c not in ("colour", "food", "drink")]),
            "v": Words.title,
        },
        ("k",),
        "my favourite {k}",
        (
            "My favourite {k} is {v}.",
            "{v} is my favourite {k}.",
            "The {k} I like best is {v}.",
            "Of all {k}s I like {v} best.",
        ),
        ("No {k} is better than {v} for me.", "I think {v} is the best {k}."),
        (
            Ask(
                "Your favourite {k} is {v}.",
                (
                    "What is my favourite {k}?",
                    "What's my favourite {k}?",
                    "Which {k} do I like best?",
                    "Which is my favourite {k}?",
                    "Do you know my favourite {k}?",
                    "What {k} do I like?",
                ),
                ("Which {k} is my favourite?", "What is the {k} I like most?"),
            ),
        ),
    ),
    *(
        Kind(
            f"favourite {name}",
            {"v": _open(words)},
            (),
            f"my favourite {name}",
            (
                f"My favourite {name} is {{v}}.",
                f"The {name} I like best is {{v}}.",
                f"I like {{v}} best of all {name}s.",
            ),
            (f"No {name} is better than {{v}} for me.",),
            (
                Ask(
                    f"Your favourite {name} is {{v}}.",
                    (
                        f"What is my favourite {name}?",
                        f"What's my favourite {name}?",
                        f"Which {name} do I like best?",
                        f"Which is my favourite {name}?",
                        f"Do you know my favourite {name}?",
                    ),
                    (f"Which {name} is my favourite?", f"What is the {name} I like most?"),
                ),
            ),
        )
        for name, words in (("colour", w.COLOURS), ("food", w.FOODS), ("drink", w.DRINKS))
    ),
)

"""The kinds of facts the model is trained on: what is told about oneself and about others."""

from __future__ import annotations

from . import words as w
from .facts import Ask, Kind, kin, named_person, person
from .words import Words


def _does(words: Words) -> str:
    """ "keeps bees", from the list's "keeps/bees"."""
    return words.pick(w.HOBBIES).replace("/", " ")


def _chore(words: Words) -> str:
    verb, thing = words.rng.choice(w.CHORES).split("/")
    return f"{verb} the {thing}".replace("-", " ")


SELF: tuple[Kind, ...] = (
    Kind(
        "my name",
        {"v": Words.full_name},
        (),
        "my name",
        ("My name is {v}.", "I am called {v}.", "I'm {v}.", "You can call me {v}.", "I am {v}."),
        ("People call me {v}.",),
        (
            Ask(
                "Your name is {v}.",
                (
                    "What is my name?",
                    "What's my name?",
                    "Who am I?",
                    "Do you know my name?",
                    "Do you know who I am?",
                    "What am I called?",
                ),
                ("How am I called?", "Can you say my name?"),
            ),
        ),
    ),
    Kind(
        "job",
        {"a": lambda x: x.open(w.JOBS), "v": Words.place},
        (),
        "my work",
        (
            "I work as a {a} in {v}.",
            "I am a {a} in {v}.",
            "I have a job as a {a} in {v}.",
            "I work in {v} as a {a}.",
            "In {v} I work as a {a}.",
            "I started to work as a {a} in {v}.",
        ),
        ("My job is to be a {a} in {v}.",),
        (
            Ask(
                "You work as a {a}.",
                (
                    "What do I do for work?",
                    "What is my job?",
                    "What's my job?",
                    "What do I work as?",
                    "What do I do for a living?",
                    "Which job do I have?",
                ),
                ("What kind of work do I do?", "As what do I work?"),
            ),
            Ask(
                "You work in {v}.",
                (
                    "Where do I work?",
                    "Which city do I work in?",
                    "In which city do I work?",
                    "Where is my job?",
                    "In which place do I work?",
                ),
                ("What city is my job in?", "Where do I go to work?"),
            ),
        ),
    ),
    Kind(
        "home",
        {"v": Words.place},
        (),
        "where I live",
        ("I live in {v}.", "My home is in {v}.", "I moved to {v}.", "My flat is in {v}.", "I have lived in {v} for years."),
        ("Home for me is {v}.",),
        (
            Ask(
                "You live in {v}.",
                (
                    "Where do I live?",
                    "Which city do I live in?",
                    "In which city do I live?",
                    "Where is my home?",
                    "Do you know where I live?",
                    "Where is my flat?",
                ),
                ("What city is my home in?", "What place do I live in?"),
            ),
        ),
    ),
    Kind(
        "allergy",
        {"v": lambda x: x.open(w.FOODS)},
        (),
        "my allergy",
        (
            "I am allergic to {v}.",
            "I cannot eat {v}.",
            "I'm allergic to {v}.",
            "I have an allergy to {v}.",
            "My allergy is to {v}.",
            "I must not eat {v}.",
        ),
        ("I get ill when I eat {v}.", "No {v} for me, I am allergic."),
        (
            Ask(
                "You are allergic to {v}.",
                (
                    "What am I allergic to?",
                    "Which food am I allergic to?",
                    "What can I not eat?",
                    "What must I not eat?",
                    "Do I have an allergy?",
                    "What allergy do I have?",
                    "What is my allergy?",
                ),
                ("Which food can I not eat?", "To what am I allergic?"),
            ),
        ),
    ),
    Kind(
        "language",
        {"v": lambda x: x.pick(w.LANGUAGES) if x.rng.random() < 0.7 else x.place()},
        (),
        "the language I learn",
        ("I am learning {v}.", "I learn {v}.", "I take lessons in {v}.", "I study {v} in the evening.", "I want to speak {v}."),
        ("The language I learn is {v}.",),
        (
            Ask(
                "You are learning {v}.",
                (
                    "Which language am I learning?",
                    "What language do I learn?",
                    "Which language do I study?",
                    "What language am I learning?",
                    "Do you know which language I learn?",
                ),
                ("In which language do I take lessons?",),
            ),
        ),
    ),
    Kind(
        "lesson",
        {"k": lambda x: x.pick(w.INSTRUMENTS), "n": Words.full_name, "v": lambda x: x.pick(w.WEEKDAYS)},
        ("k",),
        "my {k} lessons",
        (
            "I learn the {k} with {n} on {v}s.",
            "I have {k} lessons with {n} on {v}s.",
            "{n} teaches me the {k} on {v}s.",
            "On {v}s {n} teaches me the {k}.",
            "My {k} lessons are with {n} on {v}s.",
        ),
        ("Every {v} I learn the {k} with {n}.",),
        (
            Ask(
                "You learn the {k} with {n}.",
                ("Who teaches me the {k}?", "With whom do I learn the {k}?", "Who is my {k} teacher?", "Who gives me {k} lessons?"),
                ("Who do I learn the {k} with?",),
            ),
            Ask(
                "Your {k} lessons are on {v}s.",
                (
                    "When are my {k} lessons?",
                    "On which day do I learn the {k}?",
                    "What day are my {k} lessons?",
                    "When do I learn the {k}?",
                    "When do I have {k} lessons?",
                ),
                ("Which day is my {k} lesson on?",),
            ),
        ),
    ),
    Kind(
        "trip",
        {"k": Words.place, "v": Words.date},
        ("k",),
        "my trip to {k}",
        (
            "I fly to {k} on {v}.",
            "I am flying to {k} on {v}.",
            "My flight to {k} is on {v}.",
            "On {v} I fly to {k}.",
            "I travel to {k} on {v}.",
            "My trip to {k} is on {v}.",
        ),
        ("I will go to {k} on {v}.",),
        (
            Ask(
                "You fly to {k} on {v}.",
                (
                    "When do I fly to {k}?",
                    "When is my flight to {k}?",
                    "When am I flying to {k}?",
                    "What day do I travel to {k}?",
                    "When is my trip to {k}?",
                ),
                ("On which date do I go to {k}?", "When will I go to {k}?"),
            ),
        ),
    ),
    Kind(
        "parking",
        {"v": lambda x: x.rng.choice((f"on level {x.amount()}", f"in {x.place()} Street", x.spot()))},
        (),
        "where the car is",
        ("I parked the car {v}.", "The car is parked {v}.", "I left the car {v}.", "The car is {v}.", "My car is {v}."),
        ("The car stands {v}.",),
        (
            Ask(
                "You parked the car {v}.",
                (
                    "Where did I park the car?",
                    "Where is the car?",
                    "Where's my car?",
                    "Where did I leave the car?",
                    "Where is my car parked?",
                ),
                ("Where have I parked?", "Where does my car stand?"),
            ),
        ),
    ),
    Kind(
        "train",
        {"v": Words.time, "n": Words.amount},
        (),
        "my train",
        (
            "My train leaves at {v} from platform {n}.",
            "The train goes at {v} from platform {n}.",
            "I take the train at {v} from platform {n}.",
            "At {v} my train leaves from platform {n}.",
        ),
        ("My train departs from platform {n} at {v}.",),
        (
            Ask(
                "Your train leaves at {v}.",
                ("When does my train leave?", "When is my train?", "What time is my train?", "At what time does my train go?"),
                ("At which time do I take the train?",),
            ),
            Ask(
                "Your train leaves from platform {n}.",
                (
                    "Which platform does my train leave from?",
                    "What platform is my train?",
                    "From which platform does my train go?",
                    "Where does my train leave from?",
                ),
                ("On what platform is my train?",),
            ),
        ),
    ),
    Kind(
        "medicine",
        {"k": lambda x: x.open(w.MEDICINES), "v": lambda x: x.time()},
        ("k",),
        "my {k}",
        (
            "I take my {k} at {v}.",
            "I must take the {k} at {v}.",
            "I have to take {k} at {v}.",
            "The doctor says I take the {k} at {v}.",
            "At {v} I take my {k}.",
        ),
        ("The time for my {k} is {v}.",),
        (
            Ask(
                "You take your {k} at {v}.",
                (
                    "When do I take my {k}?",
                    "When must I take the {k}?",
                    "What time do I take my {k}?",
                    "At what time do I take the {k}?",
                    "When do I have to take my {k}?",
                ),
                ("Which time is for my {k}?",),
            ),
        ),
    ),
    Kind(
        "size",
        {"k": lambda x: x.rng.choice(("shoe", "hat", "shirt", "ring", "glove", "trouser")), "v": Words.amount},
        ("k",),
        "my {k} size",
        ("My {k} size is {v}.", "I wear {k} size {v}.", "I have {k} size {v}.", "{v} is my {k} size."),
        ("The size of my {k} is {v}.",),
        (
            Ask(
                "Your {k} size is {v}.",
                ("What is my {k} size?", "What's my {k} size?", "Which {k} size do I wear?", "Which {k} size do I have?"),
                ("What size is my {k}?", "What {k} size do I need?"),
            ),
        ),
    ),
)

OTHERS: tuple[Kind, ...] = (
    Kind(
        "called",
        {"k": kin, "v": Words.name},
        ("k",),
        "my {k}",
        (
            "My {k} is called {v}.",
            "My {k}'s name is {v}.",
            "The name of my {k} is {v}.",
            "I have a {k} called {v}.",
            "{v} is my {k}.",
            "{v} is the name of my {k}.",
            "My {k} has the name {v}.",
        ),
        ("I call my {k} {v}.", "We named my {k} {v}."),
        (
            Ask(
                "Your {k} is called {v}.",
                (
                    "What is my {k} called?",
                    "What is the name of my {k}?",
                    "What's my {k}'s name?",
                    "What is my {k}'s name?",
                    "Who is my {k}?",
                    "Do you know my {k}'s name?",
                    "What's the name of my {k}?",
                    "Which name does my {k} have?",
                ),
                ("How is my {k} called?", "What do I call my {k}?"),
            ),
        ),
    ),
    Kind(
        "professional",
        {"k": lambda x: x.pick(w.PROFESSIONALS), "v": Words.full_name},
        ("k",),
        "my {k}",
        (
            "My {k} is {v}.",
            "{v} is my {k}.",
            "I go to a {k}, {v}.",
            "The name of my {k} is {v}.",
            "My new {k} is {v}.",
        ),
        ("As a {k} I have {v}.",),
        (
            Ask(
                "Your {k} is {v}.",
                ("Who is my {k}?", "What is my {k} called?", "Which {k} do I have?", "What is the name of my {k}?", "Who's my {k}?"),
                ("Which {k} do I go to?",),
            ),
        ),
    ),
    Kind(
        "birthday",
        {"who": person, "v": Words.date},
        ("who",),
        "{who}'s birthday",
        (
            "{who}'s birthday is on {v}.",
            "{who} has a birthday on {v}.",
            "The birthday of {who} is on {v}.",
            "{who} was born on {v}.",
            "On {v} is {who}'s birthday.",
        ),
        ("{who} has their birthday on {v}.",),
        (
            Ask(
                "{yo}'s birthday is on {v}.",
                (
                    "When is {who}'s birthday?",
                    "When's {who}'s birthday?",
                    "What day is {who}'s birthday?",
                    "When was {who} born?",
                    "When is the birthday of {who}?",
                    "What is the date of {who}'s birthday?",
                ),
                ("Which date is {who}'s birthday?", "On which day was {who} born?"),
            ),
        ),
    ),
    Kind(
        "my birthday",
        {"v": Words.date},
        (),
        "my birthday",
        ("My birthday is on {v}.", "I was born on {v}.", "I have my birthday on {v}.", "On {v} is my birthday."),
        ("The date of my birthday is {v}.",),
        (
            Ask(
                "Your birthday is on {v}.",
                ("When is my birthday?", "When's my birthday?", "When was I born?", "What day is my birthday?", "Do you know my birthday?"),
                ("Which date is my birthday?",),
            ),
        ),
    ),
    Kind(
        "lives",
        {"who": person, "v": Words.place},
        ("who",),
        "where {who} lives",
        (
            "{who} lives in {v}.",
            "{who} moved to {v}.",
            "{who} has a house in {v}.",
            "The home of {who} is in {v}.",
            "{who} has lived in {v} for years.",
        ),
        ("{who}'s flat is in {v}.",),
        (
            Ask(
                "{yo} lives in {v}.",
                (
                    "Where does {who} live?",
                    "Which city does {who} live in?",
                    "In which city does {who} live?",
                    "Where is {who}'s home?",
                    "Do you know where {who} lives?",
                ),
                ("What place does {who} live in?", "Where has {who} a house?"),
            ),
        ),
    ),
    Kind(
        "works as",
        {"who": person, "v": lambda x: x.open(w.JOBS)},
        ("who",),
        "{who}'s work",
        ("{who} works as a {v}.", "{who} is a {v}.", "{who}'s job is {v}.", "{who} has a job as a {v}.", "{who} became a {v}."),
        ("The job of {who} is {v}.",),
        (
            Ask(
                "{yo} works as a {v}.",
                (
                    "What does {who} do for work?",
                    "What is {who}'s job?",
                    "What does {who} work as?",
                    "Which job does {who} have?",
                    "What does {who} do for a living?",
                ),
                ("What kind of work does {who} do?",),
            ),
        ),
    ),
    Kind(
        "likes",
        {"who": person, "v": lambda x: x.open(w.FOODS)},
        ("who",),
        "what {who} likes",
        ("{who} likes {v}.", "{who} loves {v}.", "{who} likes to eat {v}.", "What {who} likes is {v}.", "{who} always wants {v}."),
        ("{who} is fond of {v}.",),
        (
            Ask(
                "{yo} likes {v}.",
                ("What does {who} like?", "What does {who} love?", "What does {who} like to eat?", "Which food does {who} like?"),
                ("What food does {who} love to eat?",),
            ),
        ),
    ),
    Kind(
        "age",
        {"who": person, "v": Words.amount},
        ("who",),
        "{who}'s age",
        ("{who} is {v} years old.", "{who} turned {v}.", "{who}'s age is {v}.", "{who} is {v}."),
        ("{who} has reached the age of {v}.",),
        (
            Ask(
                "{yo} is {v} years old.",
                ("How old is {who}?", "What is {who}'s age?", "What age is {who}?", "Do you know how old {who} is?"),
                ("How many years old is {who}?",),
            ),
        ),
    ),
    Kind(
        "phone",
        {"who": person, "v": Words.digits},
        ("who",),
        "{who}'s phone number",
        (
            "{who}'s phone number is {v}.",
            "The phone number of {who} is {v}.",
            "You can call {who} at {v}.",
            "{who} has the phone number {v}.",
            "{who}'s number is {v}.",
        ),
        ("To call {who}, dial {v}.",),
        (
            Ask(
                "{yo}'s phone number is {v}.",
                (
                    "What is {who}'s phone number?",
                    "What's {who}'s number?",
                    "What is the phone number of {who}?",
                    "How can I call {who}?",
                    "Which phone number does {who} have?",
                ),
                ("Which number do I dial to call {who}?", "I need {who}'s phone number."),
            ),
        ),
    ),
    Kind(
        "owes",
        {"who": person, "v": Words.amount},
        ("who",),
        "what I owe {who}",
        ("I owe {who} {v} euros.", "I must pay {who} {v} euros.", "{who} lent me {v} euros.", "I have to give {who} {v} euros."),
        ("I borrowed {v} euros from {who}.",),
        (
            Ask(
                "You owe {yo} {v} euros.",
                ("How much do I owe {who}?", "What do I owe {who}?", "How much must I pay {who}?", "How many euros do I owe {who}?"),
                ("What must I pay to {who}?",),
            ),
        ),
    ),
    Kind(
        "gift",
        {"who": person, "v": lambda x: x.open(w.THINGS)},
        ("who",),
        "the present for {who}",
        (
            "I want to give {who} a {v}.",
            "My present for {who} is a {v}.",
            "I bought a {v} for {who}.",
            "{who} gets a {v} from me.",
            "I will give {who} a {v}.",
        ),
        ("For {who} I have a {v} as a present.",),
        (
            Ask(
                "You want to give {yo} a {v}.",
                (
                    "What do I want to give {who}?",
                    "What is my present for {who}?",
                    "What did I buy for {who}?",
                    "What do I give {who}?",
                    "Which present do I have for {who}?",
                ),
                ("What does {who} get from me?",),
            ),
        ),
    ),
    Kind(
        "borrowed",
        {"k": lambda x: x.open(w.THINGS), "who": named_person},
        ("k",),
        "who has my {k}",
        (
            "{who} borrowed my {k}.",
            "{who} has my {k}.",
            "I lent my {k} to {who}.",
            "My {k} is with {who}.",
            "I gave the {k} to {who}.",
        ),
        ("The {k} went to {who}.",),
        (
            Ask(
                "{yo} has your {k}.",
                ("Who has my {k}?", "Who borrowed my {k}?", "To whom did I lend my {k}?", "Who did I lend the {k} to?", "Who did I give my {k} to?"),
                ("With whom is my {k}?",),
            ),
        ),
    ),
    Kind(
        "chore",
        {"who": named_person, "k": _chore},
        ("k",),
        "who {k}",
        ("{who} {k}.", "{who} {k} for me.", "It is {who} who {k}.", "{who} always {k}.", "While I am away, {who} {k}."),
        ("The one who {k} is {who}.",),
        (
            Ask(
                "{yo} {k}.",
                (
                    "Who {k}?",
                    "Who {k} for me?",
                    "Who is it that {k}?",
                    "Who {k} while I am away?",
                    "Do you know who {k}?",
                    "What is the name of the one who {k}?",
                ),
                ("Which person {k}?", "Who is the one who {k}?"),
            ),
        ),
    ),
    Kind(
        "hobby",
        {"who": person, "v": _does},
        ("who",),
        "{who}'s hobby",
        ("{who} {v}.", "{who} {v} on Sundays.", "In the evening {who} {v}.", "{who} often {v}."),
        ("For fun {who} {v}.",),
        (
            Ask(
                "{yo} {v}.",
                (
                    "What is {who}'s hobby?",
                    "Which hobby does {who} have?",
                    "What does {who} do in the evening?",
                    "What does {who} do on Sundays?",
                    "What does {who} do for fun?",
                ),
                ("What hobby does {who} have?",),
            ),
        ),
    ),
    Kind(
        "meets",
        {"who": named_person, "v": lambda x: f"{x.pick(w.WEEKDAYS)} at {x.time()}"},
        ("who",),
        "meeting {who}",
        (
            "I meet {who} on {v}.",
            "I am meeting {who} on {v}.",
            "I see {who} on {v}.",
            "On {v} I meet {who}.",
            "{who} wants to meet me on {v}.",
        ),
        ("I will be with {who} on {v}.",),
        (
            Ask(
                "You meet {yo} on {v}.",
                ("When do I meet {who}?", "When am I meeting {who}?", "When do I see {who}?", "What day do I meet {who}?"),
                ("On which day will I see {who}?",),
            ),
        ),
    ),
)

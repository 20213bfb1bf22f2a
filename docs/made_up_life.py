"""A little made-up life, told to a bank: what the pictures of the page show (page_pictures.py)."""

from __future__ import annotations

from membank_llama import NewMemory

DAY = 86_400.0

TALKS: tuple[tuple[str, float, tuple[tuple[str, str], ...]], ...] = (
    ("moving to Porto", 210, (
        ("user", "We are moving to Porto in the spring, all four of us and the cat."),
        ("user", "The flat is in Rua das Flores, third floor, with a balcony to the south."),
        ("assistant", "Two removal firms serve that street; the lift takes boxes, not the piano."),
        ("user", "The piano stays with my brother Tomas in Lisbon until we have found a ground floor."),
        ("user", "Our landlady is Dona Amelia; she does not like drilling on Sundays."),
    )),
    ("the allotment", 150, (
        ("user", "I took over allotment 14 behind the railway from old Mr Hale."),
        ("user", "The soil is heavy clay; carrots fork in it, beans do well."),
        ("assistant", "On clay, dig in sand and leaf mould in autumn and sow carrots in raised beds."),
        ("user", "The water tap at the allotments is locked from November to March; the code is on the shed door."),
        ("user", "I planted two apple trees, a Cox and a Bramley, along the fence."),
        ("user", "The slugs ate all the lettuce again."),
    )),
    ("Ana's birthday", 64, (
        ("user", "My sister Ana turns forty on the ninth of May."),
        ("user", "Ana is allergic to hazelnuts, so no praline this year."),
        ("assistant", "A lemon and polenta cake has no nuts if you leave the almonds out."),
        ("user", "I will bake the lemon cake and Tomas brings the wine."),
    )),
    ("the piano workshop", 33, (
        ("user", "I tune pianos for a living; the workshop is in the old dye house."),
        ("user", "The conservatory has eleven uprights and one concert grand, tuned every September."),
        ("user", "My tuning hammer with the rosewood handle was my teacher's."),
        ("user", "The kiln next door makes the workshop dry; I keep the humidifier at forty-five percent."),
        ("assistant", "Between forty and fifty percent the soundboards will hold their pitch."),
    )),
    ("health", 12, (
        ("user", "Doctor Ribeiro wants me to take the iron tablets in the morning, with orange juice."),
        ("user", "My next appointment with the dentist is on the third of December at nine."),
        ("user", "I run along the river on Tuesdays and Fridays, five kilometres."),
        ("user", "My left knee hurts when I run on tarmac."),
    )),
    ("this week", 0.12, (
        ("user", "The cat is called Biscuit and hides behind the boiler when it thunders."),
        ("user", "The boiler was serviced on Monday; the man said the pump will not last another winter."),
        ("assistant", "A new pump of that size costs between ninety and a hundred and forty euros."),
        ("user", "Mira has her swimming badge now, the silver one."),
        ("user", "Jonas starts school in September, at the one with the blue door."),
    )),
)  # fmt: skip

NOTES = (
    ("House: the wifi password is written under the router.", 300.0, "notes.md"),
    ("House: the fuse box is behind the coats; the third switch is the oven.", 300.0, "notes.md"),
    ("House: bins go out on Thursday evening, paper every other week.", 300.0, "notes.md"),
    ("Recipe: rye bread, 500 g flour, 400 g water, 12 g salt, sourdough overnight.", 299.0, "recipes.md"),
    ("Recipe: caldo verde, potatoes, kale cut thin, one chouriço.", 299.0, "recipes.md"),
)


def life(now: float) -> list[NewMemory]:
    """What was told until now, the oldest first."""
    told = [
        NewMemory(text, {"part": place}, created_at=now - days * DAY, source=source)
        for place, (text, days, source) in enumerate(NOTES)
    ]
    for conversation, days, turns in TALKS:
        told += [
            NewMemory(text, role=role, conversation=conversation, created_at=now - days * DAY + 95 * place)
            for place, (role, text) in enumerate(turns)
        ]
    return told

"""Words the dialogues are filled with, and what of them training never sees.

Whatever a model must copy rather than know (names, places, numbers, dates) is generated, and one in eight of what can
be generated is held out by a checksum: `Words(held=False)` never yields those, `Words(held=True)` yields nothing else.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

ONSETS = (
    "b br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sch sh sk sl sm sn sp st str sw sz t th tr "
    "v w wh y z zh b d f g h j k l m n p r s t v w Ø Ø Ø Ø Ø Ø"
).split()
NUCLEI = "a e i o u a e i o u a e i o u ae ai au ea ee ei ia ie io oa oo ou ue ui y é ö ü á ó".split()
CODAS = """
b ck d f ff g k l ll lt m mp n nd ng nn nt p r rd rk rn rt s sk ss st sz t th tt tz v w x z Ø Ø Ø Ø Ø Ø Ø
""".split()
GIVEN = """
Anna Peter Maria Thomas Sarah Michael Laura David Julia Daniel Emma Lucas Sofia Martin Clara Paul Nina Simon Eva Jonas
Lena Felix Marta Oscar Alice Victor Rosa Hugo Ines Karl Elena Ivan Olga Pavel Tanya Boris Yuki Kenji Hana Akira Mei Wei
Priya Arjun Anjali Ravi Fatima Omar Leila Hassan Amina Yusuf Chidi Ngozi Kwame Abena Zola Thabo Carlos Lucia Diego
Carmen Pablo Isabel Mateo Bruno Giulia Marco Chiara Pierre Camille Luc Margot Sven Astrid Lars Freja Erik Signe Aino
Mikko Maeve Liam Aoife Callum Fiona Ewan George Charlotte Henry Grace Jack Ruby Harry Molly Arthur Daisy Edith Walter
""".split()
CITIES = """
London Paris Berlin Madrid Rome Vienna Prague Oslo Dublin Athens Warsaw Zurich Porto Lyon Ghent Bergen Kyoto Osaka
Delhi Lima Quito Boston Chicago Denver Toronto Sydney Lagos Nairobi Cairo Leeds Bristol York Oxford Turin Naples Seville
""".split()
JOBS = """
teacher nurse baker plumber carpenter gardener librarian dentist pilot chef lawyer farmer painter tailor engineer
journalist electrician translator photographer potter watchmaker geologist midwife postman musician waiter bookseller
beekeeper roofer chemist barber florist fisherman accountant sculptor programmer surveyor blacksmith vet optician
""".split()
FOODS = """
walnuts peanuts strawberries milk eggs shrimp soy wheat mustard celery oysters apples kiwis honey tomatoes mushrooms
garlic onions carrots olives cheese pears plums cherries lentils rice noodles pancakes soup pizza sushi curry dumplings
chocolate liquorice marzipan spinach cabbage salmon herring almonds figs dates melon peaches beetroot radishes
""".split()
THINGS = """
ladder drill umbrella tent kettle camera bicycle guitar suitcase toolbox saw lamp blender sleeping-bag passport scarf
charger rucksack telescope typewriter watch necklace hammer wallet diary torch thermos map compass raincoat chessboard
sledge kayak violin projector teapot vase notebook stapler screwdriver helmet ring bucket spade trowel hairdryer
""".split()
ADJECTIVES = """
blue red green old new small big wooden yellow white black broken round tall grey striped heavy brass
""".split()
SPOTS = """
flower-pot shed drawer cupboard shelf box basket doormat attic cellar garage bench bucket wardrobe desk sofa stove
fridge bookcase trunk tin stairs window-sill bed mirror hedge gate birdhouse rain-barrel piano sink
""".split()
PREPOSITIONS = "in under behind on beside above near".split()
RELATIONS = """
sister brother mother father aunt uncle cousin grandmother grandfather daughter son niece nephew wife husband friend
neighbour boss flatmate colleague landlord godmother
""".split()
PETS = "dog cat rabbit hamster parrot tortoise horse goldfish pony canary boat".split()
PROFESSIONALS = (
    "dentist doctor hairdresser lawyer accountant plumber vet therapist trainer gardener teacher baker".split()
)
LOCKS = """
bicycle-lock front-door gym-locker alarm safe garage suitcase cellar-door mailbox garden-gate office-door key-box
boat-lock shed bank-card phone tablet boiler-room laptop back-door
""".split()
NUMBERED = """
room seat locker membership passport flight account customer ticket table parking-space library-card order apartment
employee booking insurance bus
""".split()
APPOINTMENTS = "dentist doctor haircut vet eye bank passport tyre physio hospital dermatologist tax notary car".split()
EVENTS = "concert wedding exam party meeting interview lecture race match play picnic course festival rehearsal".split()
CATEGORIES = "film book song city season animal flower game sport tree band poem dish".split()
INSTRUMENTS = "cello piano guitar violin flute trumpet harp drums clarinet accordion banjo oboe".split()
HOBBIES = """
plays/chess keeps/bees plays/tennis collects/stamps grows/roses bakes/bread paints/boats builds/kites studies/law
repairs/clocks plays/football breeds/pigeons writes/novels teaches/maths sells/cheese makes/candles raises/goats
""".split()
CHORES = """
feeds/cat waters/plants walks/dog cleans/windows repairs/roof mows/lawn collects/post paints/fence looks-after/garden
sweeps/stairs feeds/rabbits drives/van tunes/piano picks-up/parcels checks/boiler feeds/fish minds/shop waters/tomatoes
""".split()
LANGUAGES = (
    "Spanish French German Italian Polish Finnish Arabic Japanese Korean Dutch Swedish Turkish Greek Welsh".split()
)
COLOURS = "blue red green yellow purple orange white black brown grey pink turquoise crimson teal silver".split()
NETWORKS = "home cabin office guest hotel school".split()
WORN = "shoe hat shirt ring glove trouser".split()
DRINKS = "tea coffee cocoa juice water lemonade cider milk beer wine".split()
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
HOURS = "one two three four five six seven eight nine ten eleven twelve".split()
DOCUMENTS = (
    "report essay invoice thesis application translation article budget review rent tax-return manuscript".split()
)
MEDICINES = "iron aspirin vitamins insulin antibiotics drops antihistamine syrup".split()
CAKES = "plum-cake apple-pie bread cheesecake goulash lasagne pancakes lemon-tart risotto jam".split()
HOLD_ONE_IN = 8
# names that README, the demo and the tests use: a memory is shown only by what training cannot have taught
RESERVED = frozenset("ilse tomasz okafor lisbon heron 4719 14_march marit 8236 quellmark osei dunvar".split())


def held_out(text: str) -> bool:
    """Whether training never sees `text` as something to copy."""
    plain = text.lower().replace(" ", "_")
    return plain in RESERVED or one_in_eight(plain)


def one_in_eight(text: str) -> bool:
    """Whether the checksum of `text` holds it out of training."""
    return zlib.crc32(text.encode()) % HOLD_ONE_IN == 0


class Words:
    """Fills slots from one random generator.

    Args:
        rng: the only source of chance.
        held: yield only what is held out, or only what is not.
        pieces: texts of vocabulary pieces made of letters; some names are put together from them, so that every piece
            gets copied in training.
    """

    def __init__(self, rng: random.Random, held: bool = False, pieces: tuple[str, ...] = ()) -> None:
        self.rng = rng
        self.held = held
        self.pieces = pieces

    def copied(self, make: Callable[[], str]) -> str:
        """A text from `make` on this side of the hold-out."""
        while True:
            text = make()
            if held_out(text) == self.held:
                return text

    def pick(self, words: list[str]) -> str:
        return self.rng.choice(words).replace("-", " ")

    def _syllables(self) -> str:
        count = self.rng.choice((1, 2, 2, 2, 3))
        parts = [self.rng.choice(ONSETS) + self.rng.choice(NUCLEI) + self.rng.choice(CODAS) for _ in range(count)]
        return "".join(parts).replace("Ø", "")

    def _pieced(self) -> str:
        return "".join(self.rng.choice(self.pieces) for _ in range(self.rng.choice((1, 2, 2, 3))))

    def _made_up(self) -> str:
        while True:
            made = self._pieced() if self.pieces and self.rng.random() < 0.4 else self._syllables()
            if 3 <= len(made) <= 12:
                return made

    def invented(self) -> str:
        """A word that no list holds, in lower case."""
        return self.copied(self._made_up)

    def name(self) -> str:
        """A given name; mostly invented."""
        return self.copied(lambda: self.rng.choice(GIVEN) if self.rng.random() < 0.2 else self._made_up().capitalize())

    def full_name(self) -> str:
        surname = self.copied(lambda: self._made_up().capitalize())
        kind = self.rng.random()
        if kind < 0.5:
            return self.name()
        return f"{self.rng.choice(('Mr', 'Mrs', 'Ms', 'Dr')) if kind < 0.8 else self.name()} {surname}"

    def place(self) -> str:
        return self.copied(lambda: self.rng.choice(CITIES) if self.rng.random() < 0.3 else self._made_up().capitalize())

    def title(self) -> str:
        """One to three words, capitalised as titles are."""
        return " ".join(self.place() for _ in range(self.rng.choice((1, 1, 2))))

    def digits(self, low: int = 3, high: int = 6) -> str:
        def make() -> str:
            return "".join(self.rng.choice("0123456789") for _ in range(self.rng.randint(low, high)))

        return self.copied(make)

    def code(self) -> str:
        if self.rng.random() < 0.75:
            return self.digits()
        letters = "".join(self.rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(self.rng.choice((1, 2, 3))))
        joint = self.rng.choice(("", " ", "-"))
        return f"{letters}{joint}{self.digits(2, 4)}"

    def amount(self) -> str:
        return self.copied(lambda: str(self.rng.randint(2, 999)))

    def year(self) -> str:
        return self.copied(lambda: str(self.rng.randint(1950, 2029)))

    def time(self) -> str:
        def make() -> str:
            chance = self.rng.random()
            if chance < 0.4:
                return f"{self.rng.randint(1, 23)}:{self.rng.choice(('00', '15', '30', '45', '05', '10', '20', '40'))}"
            if chance < 0.55:
                return f"{self.rng.randint(1, 12)} {self.rng.choice(('am', 'pm'))}"
            hour = self.rng.choice(HOURS)
            return self.rng.choice(("{}", "half past {}", "quarter past {}", "quarter to {}")).format(hour)

        return self.copied(make)

    def date(self) -> str:
        def make() -> str:
            day, month = self.rng.randint(1, 28), self.rng.choice(MONTHS)
            chance = self.rng.random()
            if chance < 0.7:
                return f"{day} {month}"
            if chance < 0.85:
                return f"{month} {day}"
            ending = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}.get(day, "th")
            return f"{month} {day}{ending}" if chance < 0.93 else f"{day} {month} {self.rng.randint(2024, 2029)}"

        return self.copied(make)

    def when(self) -> str:
        """A date, or a date and a time."""
        return self.date() if self.rng.random() < 0.6 else f"{self.date()} at {self.time()}"

    def open(self, words: list[str]) -> str:
        """A word of the list, or now and then one that no list holds."""
        return self.invented() if self.rng.random() < 0.2 else self.pick(words)

    def spot(self) -> str:
        adjective = f"{self.rng.choice(ADJECTIVES)} " if self.rng.random() < 0.6 else ""
        return f"{self.rng.choice(PREPOSITIONS)} the {adjective}{self.open(SPOTS)}"

    def phone(self) -> str:
        """Digits, or groups of digits."""
        groups = 1 if self.rng.random() < 0.6 else self.rng.choice((2, 2, 3))
        return " ".join(self.digits(3, 6 if groups == 1 else 4) for _ in range(groups))

    def person(self) -> str:
        """ "my sister", or somebody's name."""
        return f"my {self.pick(RELATIONS)}" if self.rng.random() < 0.6 else self.name()

    def named_person(self) -> str:
        """Somebody in full: "Tomasz", "my neighbour Tomasz", "Mrs Okafor"."""
        if self.rng.random() < 0.4:
            return f"my {self.pick(RELATIONS)} {self.name()}"
        return self.full_name()

    def kin(self) -> str:
        """What can be called something: relations and pets."""
        return self.pick(RELATIONS) if self.rng.random() < 0.65 else self.pick(PETS)

    def hobby(self) -> str:
        """ "keeps bees"."""
        return self.pick(HOBBIES).replace("/", " ")

    def chore(self) -> str:
        """ "feeds the cat"."""
        verb, thing = self.rng.choice(CHORES).split("/")
        return f"{verb} the {thing}".replace("-", " ")

    def language(self) -> str:
        return self.pick(LANGUAGES) if self.rng.random() < 0.7 else self.place()

    def parked(self) -> str:
        return self.rng.choice((f"on level {self.amount()}", f"in {self.place()} Street", self.spot()))

    def meeting(self) -> str:
        return f"{self.pick(WEEKDAYS)} at {self.time()}"

    def fill(self, filler: str) -> str:
        """What a line of `facts.txt` names: one of the fillers below, "one LIST" or "open LIST"."""
        how, _, which = filler.partition(" ")
        if which:
            return self.pick(_LISTS[which]) if how == "one" else self.open(_LISTS[which])
        return _FILLERS[how](self)


_LISTS: dict[str, list[str]] = {name: value for name, value in globals().items() if isinstance(value, list)}
_FILLERS: dict[str, Callable[[Words], str]] = {
    made.__name__: made
    for made in (
        Words.amount, Words.chore, Words.code, Words.date, Words.full_name, Words.hobby, Words.kin, Words.language,
        Words.meeting, Words.name, Words.named_person, Words.parked, Words.person, Words.phone, Words.place, Words.spot,
        Words.time, Words.title, Words.when, Words.year,
    )
}  # fmt: skip

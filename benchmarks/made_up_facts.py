"""Facts that no model knows, each with a question, how its answer begins, and the answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MadeUpFact:
    """`opening` and `answer` together are what a person would reply; `answer` is the part that had to be remembered."""

    told: str
    question: str
    opening: str
    answer: str


FACTS = tuple(
    MadeUpFact(*row)
    for row in (
        ("My sister Ana lives in Porto.", "Where does my sister Ana live?", "Your sister Ana lives in", "Porto"),
        ("Our dog is called Biscuit.", "What is our dog called?", "Your dog is called", "Biscuit"),
        ("My car is a green Saab.", "What colour is my car?", "Your car is", "green"),
        ("I was born in Tartu.", "Where was I born?", "You were born in", "Tartu"),
        ("My dentist is Doctor Velasco.", "What is the name of my dentist?", "Your dentist is Doctor", "Velasco"),
        ("The wifi password is heron-lamp-42.", "What is the wifi password?", "The wifi password is", "heron"),
        ("My brother works as a baker.", "What does my brother work as?", "Your brother works as a", "baker"),
        ("I am allergic to walnuts.", "What am I allergic to?", "You are allergic to", "walnuts"),
        ("Our wedding day is the 9th of May.", "When is our wedding day?", "Your wedding day is the", "9th"),
        ("My favourite tea is lapsang.", "Which tea is my favourite?", "Your favourite tea is", "lapsang"),
        ("The spare key is under the blue pot.", "Where is the spare key?", "The spare key is under the", "blue pot"),
        ("My boss is called Ingrid.", "What is my boss called?", "Your boss is called", "Ingrid"),
        ("I play the cello on Sundays.", "Which instrument do I play?", "You play the", "cello"),
        ("My flight leaves from gate 27.", "Which gate does my flight leave from?", "It leaves from gate", "27"),
        ("The plumber comes on Thursday.", "When does the plumber come?", "The plumber comes on", "Thursday"),
        ("My aunt Rosa keeps bees.", "What does my aunt Rosa keep?", "Your aunt Rosa keeps", "bees"),
        ("We spent last summer in Norway.", "Where did we spend last summer?", "You spent it in", "Norway"),
        ("My shoe size is 44.", "What is my shoe size?", "Your shoe size is", "44"),
        ("The billing service runs on port 5433.", "Which port does the billing service run on?", "Port", "5433"),
        ("My son Leo is afraid of spiders.", "What is my son Leo afraid of?", "Leo is afraid of", "spiders"),
        ("Our neighbour is called Mr Okafor.", "What is our neighbour called?", "Your neighbour is Mr", "Okafor"),
        ("I study Portuguese at night school.", "Which language do I study?", "You study", "Portuguese"),
        ("My grandmother was a pilot.", "What was my grandmother?", "Your grandmother was a", "pilot"),
        ("The garage is on Mill Street.", "Which street is the garage on?", "The garage is on", "Mill Street"),
        ("My bicycle was stolen in Ghent.", "Where was my bicycle stolen?", "It was stolen in", "Ghent"),
        ("I take my coffee with honey.", "What do I take my coffee with?", "You take it with", "honey"),
        ("Our cat Miso is eleven years old.", "How old is our cat Miso?", "Miso is", "eleven"),
        ("The book club reads Middlemarch.", "What does the book club read?", "It reads", "Middlemarch"),
        ("My locker number is 318.", "What is my locker number?", "Your locker number is", "318"),
        ("My daughter wants a telescope.", "What does my daughter want?", "Your daughter wants a", "telescope"),
        ("I sold the boat to Henrik.", "Who did I sell the boat to?", "You sold the boat to", "Henrik"),
        ("The staging server is called otter.", "What is the staging server called?", "It is called", "otter"),
        ("My yoga class is at seven.", "At what time is my yoga class?", "Your yoga class is at", "seven"),
        ("My first job was at a cinema.", "Where was my first job?", "Your first job was at a", "cinema"),
        ("We painted the kitchen yellow.", "Which colour did we paint the kitchen?", "You painted it", "yellow"),
        ("My uncle drives a tram in Zagreb.", "In which city does my uncle drive a tram?", "In", "Zagreb"),
        ("I broke my left wrist in March.", "Which wrist did I break?", "You broke your", "left"),
        ("Our boat is moored at pier 6.", "Which pier is our boat moored at?", "It is moored at pier", "6"),
        ("The choir sings Faure this winter.", "Whom does the choir sing this winter?", "The choir sings", "Faure"),
        ("My landlord is Mrs Lindqvist.", "What is the name of my landlord?", "Your landlord is Mrs", "Lindqvist"),
        ("I keep the passports in the piano.", "Where do I keep the passports?", "You keep them in the", "piano"),
        ("My nephew collects stamps.", "What does my nephew collect?", "Your nephew collects", "stamps"),
        ("The car needs an oil change in June.", "When does the car need an oil change?", "In", "June"),
        ("My team won the quiz with 71 points.", "How many points did my team win with?", "With", "71"),
        ("Grandpa's recipe needs fennel.", "What does grandpa's recipe need?", "It needs", "fennel"),
        ("I met my wife in Lisbon.", "Where did I meet my wife?", "You met your wife in", "Lisbon"),
        ("The hotel room is number 512.", "What is the number of the hotel room?", "The number is", "512"),
        ("My old school is a museum now.", "What is my old school now?", "Your old school is a", "museum"),
    )
)

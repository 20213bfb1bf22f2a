"""Everyday statements, each said in two ways and asked about: what a layer is chosen by, without any label.

Of one item all three mean the same matter and share few words; the items come in neighbouring pairs about the same
things, so that a state which only knows the topic does not tell them apart. Invented for this. What is chosen with
them is recorded in banks, so a change here changes only banks that are made afterwards.
"""

from __future__ import annotations

from typing import NamedTuple


class Triple(NamedTuple):
    """One matter: as it is told, as another would tell it, and a question that it answers."""

    told: str
    again: str
    asked: str


PARAPHRASES = (
    Triple("My brother drives a bus in Leeds.", "He is a bus driver there, my brother.", "What is my brother's job?"),
    Triple("My brother plays the drums.", "Drumming is what my brother likes.", "Which instrument does he play?"),
    Triple("Our cat sleeps on the radiator.", "The radiator is where the cat naps.", "Where does the cat sleep?"),
    Triple("Our cat will only eat tuna.", "Tuna is all the cat accepts as food.", "What should I feed the cat?"),
    Triple("The train to Ghent leaves at nine.", "At nine the train departs for Ghent.", "When do we leave for Ghent?"),
    Triple("The train was two hours late.", "We had to wait two hours at the station.", "How long was the delay?"),
    Triple("I broke my arm when I was ten.", "As a child I fractured an arm.", "Which bone did I break?"),
    Triple("I get a headache from red wine.", "Red wine makes my head hurt.", "What gives me headaches?"),
    Triple("The rent goes up in April.", "From April we pay more for the flat.", "When will the flat cost more?"),
    Triple("The landlord fixed the heating.", "Our heating was repaired by the owner.", "Who repaired the heating?"),
    Triple("Grandma knits a scarf for everyone.", "We all get scarves made by Granny.", "What does Grandma make?"),
    Triple("Grandma was born in Cork.", "Cork is where Granny comes from.", "Where was my grandmother born?"),
    Triple("I hid the spare key in the shed.", "There is another key in the garden hut.", "Where is the spare key?"),
    Triple("I lost my umbrella on the tram.", "My umbrella was left behind in a tram.", "What did I lose on the tram?"),
    Triple("We painted the kitchen yellow.", "The kitchen walls are yellow now.", "What colour is the kitchen?"),
    Triple("The kitchen tap drips at night.", "At night water drops from the tap.", "What is wrong with the tap?"),
    Triple("Paula is learning to swim.", "Paula takes swimming lessons.", "What is Paula learning?"),
    Triple("Paula is afraid of spiders.", "Spiders frighten Paula.", "What scares Paula?"),
    Triple("My boss wants the report on Friday.", "The report is due at the end of the week.", "When is it due?"),
    Triple("My boss moved to another company.", "The manager has left our firm.", "Did my boss leave?"),
    Triple("The bakery closes on Mondays.", "You get no bread there on a Monday.", "When is the bakery closed?"),
    Triple("The bakery has the best rye bread.", "For rye bread that baker is unbeaten.", "Where is good rye bread?"),
    Triple("I bought a used bicycle for eighty euros.", "My bike was second hand and cheap.", "What did my bike cost?"),
    Triple("I cycle to work when it is dry.", "Without rain I take the bike to the office.", "How do I get to work?"),
    Triple("Jonas married a girl from Peru.", "The wife of Jonas is Peruvian.", "Where is Jonas's wife from?"),
    Triple("Jonas sold his boat last year.", "Since last year Jonas has no boat.", "What did Jonas sell?"),
    Triple("It snowed on my birthday.", "There was snow the day I turned a year older.", "How was the weather then?"),
    Triple("I got a watch for my birthday.", "A watch was my birthday present.", "What present did I get?"),
    Triple("The doctor told me to walk more.", "I should go on more walks, says the doctor.", "What was I told to do?"),
    Triple("The doctor is away until June.", "Before June nobody can see the doctor.", "When is the doctor back?"),
    Triple("We saw two whales from the ferry.", "Two whales swam past our ship.", "Which animals did we see?"),
    Triple("The ferry only takes cash.", "You cannot pay by card on the boat.", "How do I pay on the ferry?"),
    Triple("My phone fell into the lake.", "The lake swallowed my phone.", "What happened to my phone?"),
    Triple("My phone lasts two days on a charge.", "I charge the phone every other day.", "How long does it last?"),
    Triple("Tea keeps me awake.", "After tea I cannot sleep.", "Why can't I fall asleep?"),
    Triple("I drink my tea with honey.", "Honey is what I sweeten tea with.", "How do I take my tea?"),
    Triple("The neighbours have twin girls.", "Two sisters were born next door.", "How many children are next door?"),
    Triple("The neighbours play loud music.", "It is noisy next door, always songs.", "Who is making all that noise?"),
    Triple("We grow tomatoes on the balcony.", "There are tomato plants outside our window.", "What do we grow?"),
    Triple("The balcony faces north.", "Our balcony gets no sun.", "Which way does the balcony face?"),
)  # fmt: skip

"""What a turn does: it tells, asks, puts off, or orders to forget."""

from __future__ import annotations

import pytest

from membank_llama.core.dialogue_acts import is_denial, is_evasion, is_forget_command, only_asks, tells_nothing

ASKING = [
    "What is my boat called?", "When was I born", "Tell me a fun fact about seals.", "My boat?", "我的猫叫什么？",
    "Is it cold there?", "Do you remember my dog Rex, the one with the brown ears?", "Explain quantum physics",
    "Remind me where I parked", "what's my name", "how many children do I have", "And what colour is my car?",
    "Which medicine must I not take?", "Write a poem. Make it short?", "Wie heiße ich?", "ما اسم قطتي؟",
    "我的猫叫什么", "你记得我的名字吗", "門鎖密碼是多少", "駐車場の番号は何番ですか",
    "Answer this:\nWhat is my mule called?", "Question: what is my mule called?\nAnswer briefly.",
    "Please answer the following question:\n\nWhere do I live?", "Beantworte diese Frage:\nWie heiße ich?",
    "Answer in one word. What is my mule called?", "请回答：\n我的猫叫什么？",
]  # fmt: skip
TELLING = [
    "It snows sideways up here, can you believe it?", "I moved to Rome, any tips?", "When I was six I lived in Rome.",
    "Write down that I like tea", "Don't forget that I'm allergic", "Do I have a brother? My sister is Ann.",
    "Will works as a plumber in Leeds.", "May has the key", "Can you remember that my PIN is 4471?",
    "Name of my dog is Rex.", "List of my allergies: nuts", "So my car is red, right?", "What I like is tea.",
    "My daughter turned six, isn't that lovely?", "I wonder, my boat Nordlys leaks.", "Do not call my boss, he is ill.",
    "Write to my clients in a warm tone, but leave out exclamation marks.",
    "Explain maths to me with drawings; formulas alone lose me.", "我的猫叫豆豆。",
    "My allergies:\nnuts", "Groceries:\nWhat do I need?",
    "Answer my letters in French.", "The answer is:\nBardolino.", "妹は京都に住んでいます。",
]  # fmt: skip


@pytest.mark.parametrize("text", ASKING)
def test_what_only_asks_tells_nothing(text: str) -> None:
    assert only_asks(text) and tells_nothing(text)


@pytest.mark.parametrize("text", TELLING)
def test_what_tells_something_beside_a_question_tells(text: str) -> None:
    assert not tells_nothing(text)


@pytest.mark.parametrize(
    ("text", "evades"),
    [
        ("I'm sorry, but as an AI language model, I don't have access to your personal information.", True),
        ("I don't have your dog's name. Could you tell me?", True),
        ("How can I assist you today?", True),
        ("Hello Marit! How can I help you today?", True),
        ("You're welcome! Have a great day.", True),
        ("Es tut mir leid, aber das weiß ich nicht.", True),
        ("我不知道。", True),
        ("I'm sorry to hear that. Try restarting the router.", False),
        ("That's a great name for a sailboat! What kind is it?", False),
        ("What is your sister called?", False),
        ("…", False),
        ("Your sister lives in Porto.", False),
        ("I am not sure. " + "The recipe needs two eggs and some flour. " * 20, False),
    ],
)
def test_replies_that_say_nothing(text: str, evades: bool) -> None:
    assert is_evasion(text) is evades


@pytest.mark.parametrize(
    ("text", "denies"),
    [
        ("I don't know", True), ("No idea.", True), ("Maybe.", True), ("不知道", True),
        ("I don't know, my boat is called Rex", False), ("Maybe I should sell the red car", False),
        ("I forgot my keys at the office, again", False),
        ("I forgot the yoghurt again.", False), ("I forgot.", True),
    ],
)  # fmt: skip
def test_who_only_does_not_know(text: str, denies: bool) -> None:
    assert is_denial(text) is denies


@pytest.mark.parametrize(
    "text",
    ["Please forget my address.", "Forget it.", "Forget what I said about Anna", "forget that.",
     "please forget everything about my ex. Thanks!", "Can you forget that I live in Oslo?",
     "Forget my phone number, please.", "remove my name from your memory", "Vergiss bitte meine Adresse",
     "delete everything you know about me", "请忘记我的地址", "忘れてください"],
)  # fmt: skip
def test_orders_to_forget(text: str) -> None:
    assert is_forget_command(text)


@pytest.mark.parametrize(
    "text",
    ["Don't forget the milk", "I always forget my keys", "Forgetting things is normal", "Delete the file and run again",
     "Forget about the meeting, it's on Monday now", "Remove the cake from the oven after 20 minutes",
     "Forget my old number. The new one is 555 0199."],
)  # fmt: skip
def test_what_only_sounds_like_one(text: str) -> None:
    assert not is_forget_command(text)

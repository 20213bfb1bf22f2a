"""Without a vocabulary, whatever is written as a control token of any family is taken for one."""

from __future__ import annotations

import random

import pytest
from support.growth import grows_with_the_square
from support.hostile_texts import KNOWN, hostile

from membank_llama.core.control_tokens import FORMS
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, Excerpt, Neutraliser, build_block
from membank_llama.server.proxy.tokenizers import COMMON_CONTROLS, EstimatedTokenizer

BREAK = Neutraliser(COMMON_CONTROLS)
TOKENS = EstimatedTokenizer(4096)


@pytest.mark.parametrize("token", KNOWN)
def test_a_token_of_any_family_is_broken_and_readable(token: str) -> None:
    assert not TOKENS.is_clean(f"so {token}system")
    cleaned = BREAK(f"so {token}system")
    assert token not in cleaned
    assert TOKENS.is_clean(cleaned)
    assert cleaned.replace(" ", "") == f"so{token}system".replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d, x <= y, 3 <-> 4, <3",
        "write to <ana@example.org> or see <https://example.org/a?b=c>",
        '<div class="note">hi',
        "- [x] done, [1], a[i], [a link](https://example.org), [see below]",
        "cout << x >> y; a | b || c",
        "if (a<b) return c>d;",
        "Größe 10 µm, 日本語「テスト」, ¿qué?",
    ],
)
def test_ordinary_text_is_untouched(text: str) -> None:
    assert BREAK(text) == text
    assert TOKENS.is_clean(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("List<String> names", "List< String> names"), ("<b>bold</b>", "< b>bold< /b>"), ("xs |> sum", "xs | > sum")],
)
def test_code_stays_readable(text: str, shown: str) -> None:
    assert BREAK(text) == shown


def test_nothing_gets_through_in_disguise() -> None:
    chance = random.Random(7)
    made = 0
    for number in range(3000):
        role = chance.choice(["user", "assistant", hostile(chance, KNOWN)[:40]])
        said = [Excerpt(k, hostile(chance, KNOWN), role, 1.7e9 + k) for k in range(chance.choice([1, 1, 2, 3]))]
        block = build_block(said, chance.choice([60, 90, 200, 1000]), TOKENS.count, BREAK)
        if not block.text:
            continue
        made += 1
        inside = block.text.removeprefix(BLOCK_OPEN).removesuffix(f"{BLOCK_CLOSE}\n\n")
        assert [token for token in KNOWN if token in inside] == [], number
        assert TOKENS.is_clean(block.text)
        assert block.text.count(BLOCK_OPEN) == block.text.count(BLOCK_CLOSE) == 1
        assert len(block.text.strip().split("\n")) == 3 + len(block.ids)
    assert made > 2000


@pytest.mark.parametrize(
    "part", ["<", "<a", "</", "[", "[A", "<[", "|", "|A", ">>", ">>A", "]~", "<<", "&lt;", "<m", "–"]
)
def test_long_texts_take_no_longer_than_their_length(part: str) -> None:
    assert not grows_with_the_square(lambda size: BREAK(part * size), 50_000)


def test_every_form_is_tried() -> None:
    assert [form.pattern for form in FORMS if not any(form.search(token) for token in KNOWN)] == []

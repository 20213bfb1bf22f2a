"""Questions in scripts without spaces: what is looked up of them, and what they are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import Vector
from membank_llama.memory.bank import MemBank
from membank_llama.recall.query_terms import MAX_TERMS, looked_up, terms
from membank_llama.recall.script_cohorts import COHORTS, TAGS, script_of
from membank_llama.recall.unspaced_terms import content_of, pairs_asked
from membank_llama.store.full_text import words_of_texts


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("门锁密码是多少", ["门锁密码"]),
        ("我对什么过敏", ["过敏"]),
        ("我的猫叫什么名字", ["猫"]),
        ("妹妹在哪里工作", ["妹妹", "工作"]),
        ("你是谁", []),
        ("駐車場の番号は", ["駐車場", "番号"]),
        ("祖母はどこに住んでいますか", ["祖母", "住"]),
        ("犬の名前は何ですか", ["犬", "名前"]),
        ("フィルターはいつ交換しましたか", ["フィルター", "交換"]),
        ("แมวของฉันชื่ออะไร", ["แมว"]),
    ],
)
def test_grammar_is_left_out(question: str, parts: list[str]) -> None:
    assert content_of(question) == parts


def test_pairs_are_looked_up_and_letters_that_stand_alone() -> None:
    assert pairs_asked("门锁密码是多少") == ["门锁", "锁密", "密码"]
    assert pairs_asked("门锁密码是多少", step=2) == ["门锁", "密码"]
    assert pairs_asked("我的猫叫什么") == ["猫"]


def test_terms_of_a_mixed_question() -> None:
    assert terms("我的NAS密码是4471吗？") == ["nas", "密码", "4471"]
    assert {term.word: term.emphasis > 1 for term in looked_up("路由器AX3000在哪里？")}["ax3000"]


def test_of_a_long_question_every_second_pair() -> None:
    run = "".join(chr(0x4E00 + 7 * number) for number in range(40))
    found = terms(run)
    assert len(found) <= MAX_TERMS and found[1] == run[2:4]
    assert set(found) <= words_of_texts([run])[0]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Where is it?", ""),
        ("Où est le café ?", ""),
        ("Что это?", ""),
        ("Translate 你好 into Spanish please", ""),
        ("密码是多少？", "Han"),
        ("NAS密码在哪里？", "Han"),
        ("番号は何ですか", "kana"),
        ("แมวชื่ออะไร", "Thai"),
        ("ឆ្មាឈ្មោះអ្វី", "Thai"),
        ("？！", ""),
    ],
)
def test_which_sentences_a_question_is_held_against(text: str, script: str) -> None:
    assert script_of(text) == script


def test_sentences_are_of_their_script_and_named_apart() -> None:
    assert len(set(TAGS.values())) == len(COHORTS)
    for name, sentences in COHORTS.items():
        assert len(set(sentences)) == len(sentences) >= 12
        # of Chinese and Japanese
        assert all(script_of(sentence) == name for sentence in sentences)


# -- what is found, and what is not


FACTS = (
    ("我的门锁密码是4471。", "门锁密码是多少？"),
    ("我的猫叫豆豆。", "我的猫叫什么？"),
    ("车停在三号停车场。", "车停在哪里？"),
    ("我对花生过敏。", "我对什么过敏？"),
    ("妹妹住在上海。", "妹妹住在哪里？"),
    ("下周五去看牙医。", "什么时候看牙医？"),
    ("爸爸喜欢喝绿茶。", "爸爸喜欢喝什么？"),
    ("家里的无线网叫海棠。", "无线网叫什么名字？"),
    ("駐車場の番号は二十七番です。", "駐車場の番号は？"),
    ("妹は京都に住んでいます。", "妹はどこに住んでいますか？"),
    ("私は卵アレルギーがあります。", "私は何のアレルギーがありますか？"),
    ("歯医者は金曜日の三時です。", "歯医者はいつですか？"),
    ("会議はZoomで行います。", "会議はどこで行いますか？"),
    ("鍵は青い箱の中にあります。", "鍵はどこにありますか？"),
)
UNRELATED = (
    "法国的首都是哪里？",
    "怎么煮鸡蛋？",
    "谁写了红楼梦？",
    "请写一首关于秋天的诗。",
    "什么是通货膨胀？",
    "世界上最高的山是什么？",
    "蜜蜂怎么酿蜜？",
    "五加七等于多少？",
    "谢谢，非常有帮助！",
    "フランスの首都はどこですか？",
    "源氏物語を書いたのは誰ですか？",
    "光の速さはどのくらいですか？",
    "秋についての俳句を書いてください。",
    "インフレーションとは何ですか？",
    "恐竜はなぜ絶滅しましたか？",
    "素数とは何ですか？",
    "ありがとうございます！",
)


class VectorsAlone(ModelAdapter):
    """A model without the states of its tokens."""

    def __init__(self, inner: ModelAdapter) -> None:
        self._inner = inner

    @property
    def hidden_dim(self) -> int:
        return self._inner.hidden_dim

    def model_id(self) -> str:
        return f"alone-{self._inner.model_id()}"

    def encode(self, text: str) -> Vector:
        return self._inner.encode(text)


@pytest.fixture(scope="module", params=["vectors alone", "tokens"])
def bank(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, minilm_gguf: Path
) -> Iterator[MemBank]:
    with LlamaCppAdapter(minilm_gguf, n_threads=1) as model:
        adapter = model if request.param == "tokens" else VectorsAlone(model)
        with MemBank(adapter, tmp_path_factory.mktemp("bank")) as opened:
            opened.ingest_many([fact for fact, _ in FACTS])
            yield opened


def injected(bank: MemBank, question: str) -> list[str]:
    return [result.text for result in bank.recall(question, 6) if result.relevant]


def test_what_was_told_is_given(bank: MemBank) -> None:
    assert [fact for fact, question in FACTS if injected(bank, question)[:1] != [fact]] == []


def test_unrelated_questions_are_given_nothing(bank: MemBank) -> None:
    assert {question: given for question in UNRELATED if (given := injected(bank, question))} == {}


def test_words_alone_find_them_too(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many([fact for fact, _ in FACTS])
        # a sister lives in two of them
        for fact, question in FACTS:
            assert fact in [result.text for result in bank.recall(question, 2)]
        assert [question for question in UNRELATED if injected(bank, question)] == []

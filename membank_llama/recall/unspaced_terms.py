"""What is looked up of a question in a script without spaces: pairs of neighbouring letters, as texts are filed.

Words of grammar are taken out first, and what stands between them is cut. Without a dictionary a word within a word
cannot be told, so the lists hold what is seldom a part of another word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from membank_llama.core.letters import HAN, letters_of, pairs_of

_CHINESE = """
    叫什么名字 叫什麼名字 什么时候 什麼時候 什么名字 什麼名字 叫什么 叫什麼 是什么 是什麼 为什么 為什麼 对什么
    對什麼 什么 什麼 多少 怎么样 怎麼樣 怎么 怎麼 怎样 怎樣 如何 在哪里 在哪裡 在哪儿 在哪 哪里 哪裡 哪儿 哪个
    哪個 哪些 哪天 几点 幾點 几号 幾號 几个 幾個 几岁 幾歲 多久 多大 多长 多長 多远 多遠 是谁 是誰 谁的 誰的
    我们 我們 你们 你們 他们 他們 她们 她們 我的 你的 他的 她的 这个 這個 那个 那個 是不是 有没有 有沒有 可以
    告诉 告訴 记得 記得 知道 的 了 吗 嗎 呢 吧 是 我 你 您 他 她 它 谁 誰 啊 呀 么 麼 叫
"""
_ALONE = """
    对 對 在 有 和 与 與 都 也 还 還 很 就 把 被 给 給 从 從 到 去 来 來 会 會 能 要 想 让 讓 跟 用 上 下 里 裡
    个 個 这 這 那 哪 请 請 不 没 沒 过 過 着 著 得 地 为 為 以 于 於 做 几 幾 多 少 好 一 何 何時 何曜日 何番
    何歳 何人 何月 何日 誰 私 僕 俺 君
"""
"""Han that is grammar where it stands alone between the words above, or between kana."""
_KANA = """
    でしょうか でしたか ましたか ますか ですか どれくらい どのくらい いくつ いくら どこ どれ どの どちら どんな
    どうやって どうして なに なん いつ だれ なぜ どう これ それ あれ この その あの わたし ぼく おれ あなた
    について ください でした ました ません ます です だった ている ています ていた ていました んでいます
    んでいる んでいた んで いる いた ある あった から まで より って した する して は が を に で と も の へ
    や か ね よ た て
"""
_THAI_LAO_KHMER_MYANMAR = """
    ของฉัน ของผม ของ ฉัน ผม อะไร ที่ไหน เมื่อไหร่ เมื่อไร เท่าไหร่ เท่าไร อย่างไร ยังไง ใคร ทำไม ไหน กี่ ชื่อ
    คือ เป็น อยู่ ไหม ครับ ค่ะ คะ และ ที่ ใน ได้ ຂອງ ຂ້ອຍ ແມ່ນ ຫຍັງ ຢູ່ໃສ ຢູ່ ໃສ ຊື່ ໃຜ ເທົ່າໃດ ທີ່ ໃນ របស់ខ្ញុំ
    របស់ ខ្ញុំ អ្វី នៅឯណា ណា នៅ ជា នរណា ប៉ុន្មាន ឈ្មោះ ကျွန်တော့် ကျွန်တော် ကျွန်မ ဘာလဲ ဘယ်မှာ ဘယ်သူ ဘယ်လောက်
    ဘယ် ဘာ သည် တယ် မှာ လဲ သလဲ
"""

FUNCTION_WORDS = frozenset(f"{_CHINESE} {_ALONE} {_KANA} {_THAI_LAO_KHMER_MYANMAR}".split())
"""Words of grammar, and what questions are asked with."""


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(sorted(words, key=len, reverse=True)))


_SPLITS = _any_of(f"{_CHINESE} {_THAI_LAO_KHMER_MYANMAR}".split())
_KANA_SPLITS = _any_of(_KANA.split())
_HIRAGANA = re.compile("[\u3041-\u3096]+")


def content_of(run: str) -> list[str]:
    """What of a run says something, as parts of it."""
    if not _HIRAGANA.search(run):
        parts = _SPLITS.split(run)
    else:
        # grammar is written in hiragana: what is not stands between it
        parts = _HIRAGANA.sub(lambda found: f" {' '.join(_KANA_SPLITS.split(found[0]))} ", run).split()
    return [part for part in parts if _says_something(part)]


def _says_something(part: str) -> bool:
    return part not in FUNCTION_WORDS and (len(letters_of(part)) > 1 or HAN.match(part) is not None)


def pairs_asked(run: str, *, step: int = 1) -> list[str]:
    """The pairs of letters to look up, and the letters that stand alone; `step` of 2: every second pair, which finds as
    surely where all would be too many."""
    return [pair for part in content_of(run) for pair in pairs_of(part)[::step]]

"""Sentences about nothing in particular, for questions in scripts without spaces.

To most encoders all text of such a script is alike: held against English sentences, any of it stands far above what is
unrelated. So a question is held against sentences of its own script (relevance_gate.py does the same with English).
"""

from __future__ import annotations

import hashlib
import re

from membank_llama.core.letters import RUN, WORD

from .relevance_gate import COHORT

_CHINESE = (
    "博物馆平日九点开门，五点关门。",
    "这条河先向北流，再转向大海。",
    "请重新启动打印机并放入纸张。",
    "等边三角形的三个角相等。",
    "委员会把决定推迟到下个月。",
    "蒙古国的首都是哪里？",
    "铜的导热性比钢好。",
    "她把货车停在旧面包店后面。",
    "先更新驱动程序，然后重启电脑。",
    "观众入座时乐队正在调音。",
    "哪颗行星的卫星最多？",
    "第三季度物价上涨了百分之二。",
    "守门员在最后一分钟扑出了点球。",
    "因为大雾，渡轮晚点了。",
    "秋天树叶为什么会变色？",
    "非常感谢，这很有用。",
)
_JAPANESE = (
    "博物館は平日九時に開き、五時に閉まります。",
    "川は北へ流れてから海に向かいます。",
    "プリンターを再起動して、紙を入れてください。",
    "正三角形の三つの角は等しいです。",
    "委員会は決定を来月に延期しました。",
    "モンゴルの首都はどこですか？",
    "銅は鋼より熱をよく伝えます。",
    "彼女は古いパン屋の裏に車を止めました。",
    "ドライバーを更新してから、パソコンを再起動します。",
    "観客が座る間、楽団は音を合わせていました。",
    "衛星が一番多い惑星はどれですか？",
    "第三四半期に物価が二パーセント上がりました。",
    "キーパーは最後の一分でシュートを止めました。",
    "濃い霧のためフェリーが遅れました。",
    "秋に葉の色が変わるのはなぜですか？",
    "ありがとう、とても助かりました。",
)
_THAI = (
    "พิพิธภัณฑ์เปิดเก้าโมงและปิดห้าโมง",
    "แม่น้ำไหลไปทางเหนือก่อนลงสู่ทะเล",
    "กรุณาเปิดเครื่องพิมพ์ใหม่แล้วใส่กระดาษ",
    "สามเหลี่ยมด้านเท่ามีมุมเท่ากัน",
    "คณะกรรมการเลื่อนการตัดสินใจไปเดือนหน้า",
    "เมืองหลวงของมองโกเลียคืออะไร",
    "ทองแดงนำความร้อนได้ดีกว่าเหล็ก",
    "ดาวเคราะห์ดวงใดมีดวงจันทร์มากที่สุด",
    "ราคาสินค้าเพิ่มขึ้นสองเปอร์เซ็นต์",
    "เรือข้ามฟากมาช้าเพราะหมอกหนา",
    "ทำไมใบไม้เปลี่ยนสีในฤดูใบไม้ร่วง",
    "ขอบคุณมาก มีประโยชน์จริงๆ",
)

COHORTS: dict[str, tuple[str, ...]] = {"": COHORT, "Han": _CHINESE, "kana": _JAPANESE, "Thai": _THAI}
"""The sentences by script; "" are those for all that is written with spaces. Lao, Khmer and Burmese are held
against Thai, the nearest there is."""

TAGS = {name: hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:8] for name, sentences in COHORTS.items()}
"""Name the sentences, so that vectors kept of others are not taken for theirs."""

_KANA = re.compile("[\u3041-\u30ff]")
_BEFORE_HAN = re.compile("[\u0e00-\u1fff\ua9e0-\uaa7f]")


def script_of(text: str) -> str:
    """The key of `COHORTS` for a question: that of the script that most of its letters are of."""
    if text.isascii():
        return ""
    runs = "".join(RUN.findall(text))
    if 2 * len(runs) < sum(map(len, WORD.findall(text))) or not runs:
        return ""
    if _KANA.search(runs):
        return "kana"
    return "Thai" if _BEFORE_HAN.search(runs) else "Han"

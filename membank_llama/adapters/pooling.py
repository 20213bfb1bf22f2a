"""From tokens to windows to one vector: what adapters that pool over tokens share. Pure, without a model.

A text is cut into windows; each carries the same frame (special tokens, template) around a stretch of the
text. The stretches lie end to end, so that the sum over all windows is the sum over the whole text, and no
token is lost.

The first position of a window is evaluated but not pooled where there are others. Attention rests on it:
its state, often a hundred times longer than the rest, says little of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import EncodingError, InvalidInputError
from membank_llama.core.types import Vector

from .prompt_templates import TEXT, Pooling, resolve_template

TRIAL = "a b c"
HALF, SEVENTH = 0.5, 6
_LEAST_ROOM = 4
_PIECE = 8192


@dataclass(frozen=True)
class Window:
    """A stretch of one text. Rows `start` to `end` are pooled; the first is token `position`, from 1."""

    text: int
    tokens: list[int]
    start: int
    end: int
    position: int


class Tokenize(Protocol):
    """Token ids of a text. `add`: with BOS and the like around; `specials`: control tokens in it read as such."""

    def __call__(self, text: str, *, specials: bool, add: bool) -> list[int]: ...


@dataclass(frozen=True)
class Reader:
    """Makes windows of texts: a frame of special tokens and template around every stretch of `room` tokens.

    Where the template says the text twice, `between` stands between the two and the second one is pooled.
    """

    tokenize: Tokenize
    before: list[int]
    after: list[int]
    lead: str
    room: int
    adds_space: bool
    between: list[int] | None = None

    @classmethod
    def of(
        cls, tokenize: Tokenize, template: str | None, size: int, *, adds_space: bool = False, opening: str = ""
    ) -> Reader:
        """For windows of `size` tokens; of a template, its wording (see `prompt_templates.py`). `opening` goes ahead
        where the vocabulary puts nothing there: attention rests on the first position, and that shall not be a word.

        Raises:
            InvalidInputError: the template leaves hardly any room for the text.
        """
        full = tokenize(TRIAL, specials=False, add=True)
        bare = tokenize(TRIAL, specials=False, add=False)
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        before, after, lead = full[:at], full[at + len(bare) :], ""
        if opening and not before:
            before = tokenize(opening, specials=False, add=False)
        between: list[int] | None = None
        if template is not None:
            head, *middle, tail = template.split(TEXT)
            # a space between template and text belongs to the text's first token; some tokenizers add it
            lead = " " if all(part.endswith(" ") for part in (head, *middle)) and not adds_space else ""
            before = before + tokenize(head.removesuffix(" "), specials=True, add=False)
            after = tokenize(tail, specials=True, add=False) + after
            between = tokenize(middle[0].removesuffix(" "), specials=True, add=False) if middle else None
        frame = len(before) + len(between or ()) + len(after)
        room = size - frame if between is None else (size - frame) // 2
        if room < _LEAST_ROOM:
            raise InvalidInputError(f"the template leaves {room} of {size} tokens to the text; shorten it")
        return cls(
            tokenize=tokenize, before=before, after=after, lead=lead, room=room, adds_space=adds_space, between=between
        )

    def _body(self, text: str) -> list[int]:
        """Tokens of the text alone. A long one goes in pieces: some tokenizers take minutes for a megabyte."""
        body: list[int] = []
        at = 0
        while at < len(text):
            end = at + _PIECE
            if end < len(text):
                space = text.rfind(" ", at + 1, end)
                end = end if space < 0 else space
            piece = text[at:end]
            body += self.tokenize(
                piece.removeprefix(" ") if at and self.adds_space else piece, specials=False, add=False
            )
            at = end
        return body

    def windows(self, number: int, text: str) -> Iterator[Window]:
        """The windows of text `number`.

        Raises:
            EncodingError: the text holds no token at all.
        """
        body, head = self._body(self.lead + text), len(self.before)
        if self.between is not None and body:
            yield from self._twice(number, body, self.between)
            return
        if not body:
            if not head + len(self.after):
                raise EncodingError(f"text {number} holds nothing that the model knows; leave it out")
            yield Window(number, self.before + self.after, 0, head + len(self.after), 1)
        at = 0
        while at < len(body):
            # with nothing before it, a later window begins with the token ahead of it, which it does not pool
            context = body[at - 1 : at] if at and not head else []
            end = min(len(body), at + self.room - len(context))
            skip = 1 if end > 1 and at == 0 and not head else 0
            start = head + len(context) + skip
            tokens = self.before + context + body[at:end] + self.after
            yield Window(number, tokens, start, head + len(context) + end - at, at + skip + 1)
            at = end

    def _twice(self, number: int, body: list[int], between: list[int]) -> Iterator[Window]:
        for at in range(0, len(body), self.room):
            stretch = body[at : at + self.room]
            ahead = self.before + stretch + between
            yield Window(number, ahead + stretch + self.after, len(ahead), len(ahead) + len(stretch), at + 1)


def groups(windows: Sequence[Window], capacity: int, most: int) -> Iterator[list[Window]]:
    """Fill batches of `capacity` tokens and `most` windows: longest first, into the first that has room."""
    made: list[list[Window]] = []
    room: list[int] = []
    first = 0
    for window in sorted(windows, key=lambda w: -len(w.tokens)):
        size = len(window.tokens)
        number = first
        while number < len(made) and (size > room[number] or len(made[number]) == most):
            number += 1
        if number == len(made):
            made.append([])
            room.append(capacity)
        made[number].append(window)
        room[number] -= size
        while first < len(made) and (len(made[first]) == most or room[first] < _LEAST_ROOM):
            first += 1
    yield from made


def pool(window: Window, rows: npt.NDArray[Any], pooling: Pooling) -> npt.NDArray[np.float64]:
    """What a window adds to the sum of its text; `rows` is ``(n_tokens, dim)``.

    Of the sums only the direction is used, so nothing is divided here. ``mean``: the sum of the rows.
    ``weighted``: weights rise with the position in the whole text. ``last``: each window's last row, by its
    number of tokens.
    """
    count = window.end - window.start
    if pooling == "last":
        weights, rows = np.array([count]), rows[-1:]
    else:
        weights = np.ones(count) if pooling == "mean" else np.arange(window.position, window.position + count)
        rows = rows[window.start : window.end]
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is found, and named, when all is added up
        summed: npt.NDArray[np.float64] = weights.astype(np.float64) @ rows
    return summed


def unit_length(sums: npt.NDArray[np.float64], who: str) -> Vector:
    """Rows of unit length, float32.

    Raises:
        EncodingError: a row is zero, infinite or NaN.
    """
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise EncodingError(
            f"{who} gave NaN or nothing for {bad.size} of {len(sums)} texts (first: number {bad[0]}); "
            "nothing was stored, try another layer or a less quantised model"
        )
    unit: Vector = (sums / lengths).astype(np.float32)
    return unit


def resolve_layer(layer: str | int | float, depth: int) -> int:
    """The 0-based layer meant by ``"auto"`` (half depth), a number, or a share of the depth.

    Raises:
        InvalidInputError: out of range, or something else.
    """
    share = HALF if isinstance(layer, str) and layer == "auto" else layer
    if isinstance(share, float) and math.isfinite(share) and 0 <= share <= 1:
        return max(1, int(share * depth + 1e-9)) - 1
    if isinstance(layer, int) and not isinstance(layer, bool) and -depth <= layer < depth:
        return layer % depth
    raise InvalidInputError(
        f"layer must be 'auto', a layer from {-depth} to {depth - 1}, or a share of the depth from 0.0 to 1.0;"
        f" it is {layer!r}"
    )


def content_layer(depth: int) -> int:
    """The 0-based layer whose tokens say most of their own meaning: a fifth of the depth, the seventh layer at least,
    and half depth at most. Measured on SmolLM2-135M, Qwen2.5-0.5B and Gemma 3 270M (docs/benchmarks.md)."""
    return min(max(SEVENTH, depth // 5), resolve_layer("auto", depth))


def check_options(
    pooling: str | None, template: str | None, *, default: Pooling = "mean", **counts: int | None
) -> tuple[Pooling, str | None]:
    """Refuse what no model could do; returns the pooling and the wording of the template.

    Args:
        default: the pooling where neither says one.

    Raises:
        InvalidInputError: naming the option and what it may be.
    """
    found = resolve_template(template)
    chosen = pooling or (found.pooling if found else default)
    if chosen not in get_args(Pooling):
        known = ", ".join(get_args(Pooling))
        raise InvalidInputError(f"pooling must be one of {known}; it is {pooling!r}")
    for name, value in counts.items():
        least = 8 if name == "window" else 1
        if value is not None and value < least:
            raise InvalidInputError(f"{name} must be at least {least}; it is {value}")
    return cast(Pooling, chosen), None if found is None else found.wording

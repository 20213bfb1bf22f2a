"""Whether a text holds what is to be forgotten: told generously, as what is deleted for nothing is only read again.

Letters and digits alone are compared, so that quoting, line ends and marks that a prompt puts around a memory do not
hide it. A long memory stands in a prompt in part: any run of `RUN` of its letters counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from membank_llama.core.letters import folded

RUN = 24
_STEP = 4
REACH = RUN + _STEP
"""Letters of what is ahead that have to be looked at, for a text that begins there."""


def _signs(text: str) -> str:
    """What is compared of texts without letters and digits: all but the spaces."""
    return "".join(folded(text).split())


def letters(text: str) -> str:
    """Folded letters and digits, without anything between them."""
    return "".join(filter(str.isalnum, folded(text)))


class ForgottenTexts:
    """Texts that must not be found any more."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._short: set[str] = set()
        self._runs: set[str] = set()
        self._signs: set[str] = set()
        for text in texts:
            plain = letters(text)
            if not plain:
                self._signs.add(_signs(text))
            elif len(plain) < RUN + _STEP:
                self._short.add(plain)
            else:
                # every run of this length in a text begins at one of these places, or is a letter or three longer
                self._runs.update(plain[at : at + RUN] for at in range(0, len(plain) - RUN + 1, _STEP))
        self._signs.discard("")

    def __bool__(self) -> bool:
        return bool(self._short or self._runs or self._signs)

    def are_in(self, text: str) -> bool:
        """Whether any of them stands in a text."""
        plain = letters(text)
        if any(short in plain for short in self._short):
            return True
        if self._signs and any(signs in _signs(text) for signs in self._signs):
            return True
        return self._has_run(plain)

    def stand_across(self, ahead: str, behind: str) -> bool:
        """Whether any of them begins in one text and goes on in the next."""
        first, then = letters(ahead), letters(behind)
        return (
            any(_is_across(short, first, then) for short in self._short)
            or any(_is_across(signs, _signs(ahead), _signs(behind)) for signs in self._signs)
            or self._has_run(first[1 - RUN :] + then[: RUN - 1])
        )

    def _has_run(self, plain: str) -> bool:
        runs = self._runs
        return bool(runs) and any(plain[at : at + RUN] in runs for at in range(len(plain) - RUN + 1))


def _is_across(sought: str, first: str, then: str) -> bool:
    most = len(sought) - 1
    return most > 0 and sought in first[-most:] + then[:most]

"""Replies of llama-cpp-python, ended where the model goes on writing the block that was injected.

Of a stream nothing of that is handed out; a whole reply is ended by a stopping criterion, and cut.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from membank_llama.core.thoughts import ThoughtTag

from .block_echo import EchoGuard


@dataclass(frozen=True)
class EchoWatch:
    """What is looked for in one reply.

    Args:
        block: what was injected.
        tag: how the model writes thoughts.
        pieces: the bytes of tokens, one by one.
    """

    block: str
    tag: ThoughtTag | None
    pieces: Callable[[list[int]], Sequence[bytes]]

    def criterion(self, begun: bool) -> Callable[[Any, Any], bool]:
        """A stopping criterion for `create_completion`."""
        guard = EchoGuard(self.block, begun=begun, tag=self.tag)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        seen: int | None = None

        def stops(ids: Any, logits: Any) -> bool:
            nonlocal seen
            if seen is not None and len(ids) > seen:
                new = [int(token) for token in ids[seen:]]
                guard.push(decoder.decode(b"".join(self.pieces(new))))
            # at first it is shown the prompt alone
            seen = len(ids)
            return guard.is_hit

        return stops

    def cut(self, text: str, begun: bool) -> str | None:
        """A whole reply up to where the block goes on; None where it does not."""
        guard = EchoGuard(self.block, begun=begun, tag=self.tag)
        shown = guard.push(text) + guard.end()
        return shown.rstrip() if guard.is_hit else None

    def stream(self, inner: Iterator[Any], begun: bool) -> Iterator[Any]:
        """The chunks of a reply, up to where the block goes on."""
        guard = EchoGuard(self.block, begun=begun, tag=self.tag)
        spoken: Any = None
        try:
            for chunk in inner:
                choices = chunk.get("choices")
                if not choices:
                    yield chunk
                    continue
                text, ends = chunk_text(choices[0]), choices[0].get("finish_reason") is not None
                shown = guard.push(text) + (guard.end() if ends else "")
                if text:
                    spoken = chunk
                if shown and (text or spoken is None):
                    yield chunk if shown == text else _saying(chunk, shown, ended=ends)
                elif shown:
                    # the last chunk of a chat holds no text
                    yield _saying(spoken, shown)
                if guard.is_hit:
                    yield _ended(chunk)
                    return
                if not text or (ends and not shown):
                    yield chunk if not text else _saying(chunk, "", ended=ends)
        finally:
            close = getattr(inner, "close", None)
            if close is not None:
                close()


def chunk_text(choice: Any) -> str:
    """The text of one choice of a chunk, of a completion or a chat."""
    if "text" in choice:
        return str(choice["text"] or "")
    return str(choice.get("delta", {}).get("content") or "")


def _saying(chunk: Any, text: str, *, ended: bool = False) -> Any:
    choice = chunk["choices"][0]
    said = {"text": text} if "text" in choice else {"delta": {**choice.get("delta", {}), "content": text}}
    reason = choice.get("finish_reason") if ended else None
    return {**chunk, "choices": [{**choice, **said, "finish_reason": reason}]}


def _ended(chunk: Any) -> Any:
    choice = chunk["choices"][0]
    said: dict[str, Any] = {"text": ""} if "text" in choice else {"delta": {}}
    return {**chunk, "choices": [{**choice, **said, "logprobs": None, "finish_reason": "stop"}]}

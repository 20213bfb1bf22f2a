"""`ChatSession`: the turns of a chat, and what a person may do to them.

Holds the messages, keeps them within the context by letting the oldest turns go (they are remembered anyway), and
streams one reply at a time. It shows nothing: whoever owns it does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

from membank_llama.core.errors import InvalidInputError, ModelError
from membank_llama.core.thoughts import ThoughtStream, tag_of
from membank_llama.memory.prompt_injection import LastRecall

MESSAGE_OVERHEAD = 12
MARGIN = 64
MOST_REPLY_TOKENS = 1024
_TOO_LONG = "exceed context window"


@dataclass(frozen=True)
class ReplyOptions:
    """How replies are made. `max_tokens` of None: a quarter of the context, 1,024 at most."""

    temperature: float = 0.7
    max_tokens: int | None = None
    system: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class SessionReply:
    """One reply: its text, why it ended, how many turns were let go for it, and what was recalled."""

    text: str
    ended: Literal["stop", "length", "stopped"]
    dropped_turns: int
    recalled: LastRecall | None


class ChatSession:
    """A chat with a model that may remember.

    Args:
        llm: a loaded model; with `llm.memory`, as `membank_llama.Llama` has it, the chat remembers.
    """

    def __init__(self, llm: Any, options: ReplyOptions | None = None) -> None:
        self.llm = llm
        self.options = options or ReplyOptions()
        self.memory: Any = getattr(llm, "memory", None)
        self.messages: list[dict[str, str]] = []
        self._tag = tag_of((getattr(llm, "metadata", None) or {}).get("tokenizer.chat_template"))
        self._before: set[int] = set()
        self.start_anew()

    @property
    def max_tokens(self) -> int:
        """The longest reply, in tokens."""
        return self.options.max_tokens or min(MOST_REPLY_TOKENS, int(self.llm.n_ctx()) // 4)

    def start_anew(self) -> None:
        """Begin another conversation: nothing said before is shown to the model, but from memory."""
        system = self.options.system
        self.messages = [{"role": "system", "content": system}] if system else []
        if self.memory is not None:
            name = f"chat-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
            # a name of its own: the default one would change with the first message, which may be let go
            self.memory.options = replace(self.memory.options, conversation=name)

    # -- a turn

    def ask(
        self,
        text: str,
        show: Callable[[str], None],
        stopped: Callable[[], bool],
        show_thought: Callable[[str], None] = lambda piece: None,
    ) -> SessionReply:
        """Say something and stream the reply.

        Args:
            show: given every piece of the reply as it comes.
            stopped: asked between pieces; true ends the reply, what was said is kept as partial.
            show_thought: given what the model thinks aloud before it; that is no part of the reply.

        Raises:
            InvalidInputError: the message alone does not fit the context.
            ModelError: the model cannot answer, as where its template refuses a system message.
                In both cases the message is taken back.
        """
        self._check_length(text)
        if self.memory is not None:
            self.memory.flush()
            self._before = self._own_ids()
            self.memory.last = None
        self.messages.append({"role": "user", "content": text})
        dropped = self._fit()
        said: list[str] = []

        def collect(piece: str) -> None:
            said.append(piece)
            show(piece)

        ended: Literal["stop", "length", "stopped"] | None = None
        try:
            while ended is None:
                try:
                    ended = self._stream(collect, stopped, show_thought)
                except (ValueError, RuntimeError) as exc:
                    # counting tokens message by message leaves out what the template adds
                    if _TOO_LONG not in str(exc) or said or not self._drop_oldest():
                        raise ModelError(f"the model could not answer: {exc}") from exc
                    dropped += 1
        except BaseException:
            self.messages.pop()
            raise
        self._keep_reply("".join(said))
        return SessionReply("".join(said), ended, dropped, self.memory.last if self.memory is not None else None)

    def _stream(
        self, show: Callable[[str], None], stopped: Callable[[], bool], show_thought: Callable[[str], None]
    ) -> Literal["stop", "length", "stopped"]:
        stream = self.llm.create_chat_completion(
            messages=[dict(message) for message in self.messages],
            stream=True,
            temperature=self.options.temperature,
            max_tokens=self.max_tokens,
            seed=self.options.seed,
        )
        thoughts = ThoughtStream(begun=getattr(self.llm, "begun_thought", False), tag=self._tag)
        ended = "stop"

        def tell(thought: str, words: str) -> None:
            if thought:
                show_thought(thought)
            if words:
                show(words)

        with closing(stream):
            for chunk in stream:
                choice = chunk["choices"][0]
                tell(*thoughts.push(choice.get("delta", {}).get("content") or ""))
                ended = choice.get("finish_reason") or ended
                if stopped():
                    return "stopped"
        tell(*thoughts.end())
        return "length" if ended == "length" else "stop"

    def _keep_reply(self, text: str) -> None:
        if text.strip():
            self.messages.append({"role": "assistant", "content": text})
        else:
            # many templates refuse two user messages in a row
            self.messages.pop()

    # -- the context

    def _check_length(self, text: str) -> None:
        """Refuse what can never fit before it is remembered."""
        if self._count(text) + MESSAGE_OVERHEAD + MARGIN > self.llm.n_ctx():
            raise InvalidInputError(
                f"the message does not fit into the context of {self.llm.n_ctx():,} tokens; "
                "shorten it, or start with a larger --ctx"
            )

    def _fit(self) -> int:
        """Let the oldest turns go until the prompt leaves room for memories and a reply; returns how many went."""
        n_ctx = int(self.llm.n_ctx())
        share = self.memory.options.budget or int(self.memory.options.share * n_ctx) if self.memory is not None else 0
        room = n_ctx - min(self.max_tokens, n_ctx // 2) - share - MARGIN
        dropped = 0
        while self._tokens() > room and self._drop_oldest():
            dropped += 1
        return dropped

    def _tokens(self) -> int:
        return sum(self._count(message["content"]) + MESSAGE_OVERHEAD for message in self.messages)

    def _count(self, text: str) -> int:
        return len(self.llm.tokenize(text.encode("utf-8", "replace"), add_bos=False, special=False))

    def _drop_oldest(self) -> bool:
        """Let one turn go, a message and its reply; False where only the newest message is left."""
        first = 1 if self.messages and self.messages[0]["role"] == "system" else 0
        if len(self.messages) - first < 2:
            return False
        end = first + 1
        while end < len(self.messages) - 1 and self.messages[end]["role"] != "user":
            end += 1
        del self.messages[first:end]
        return True

    # -- forgetting

    def _own_ids(self) -> set[int]:
        options = self.memory.options
        return set(self.memory.bank.select(namespace=options.namespace, conversation=options.conversation))

    def last_ids(self) -> list[int]:
        """Ids of what the last turn added to the bank."""
        self.memory.flush()
        return sorted(self._own_ids() - self._before)

    def unsay(self, text: str) -> None:
        """Take turns that hold a forgotten text out of what the model is shown."""
        text = text.strip()
        kept: list[dict[str, str]] = []
        turn: list[dict[str, str]] = []
        for message in [*self.messages, {"role": "user", "content": ""}]:
            if message["role"] == "user":
                if not any(text in said["content"] for said in turn):
                    kept += turn
                turn = []
            turn.append(message)
        self.messages = kept

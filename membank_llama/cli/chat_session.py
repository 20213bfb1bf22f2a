"""`ChatSession`: the turns of a chat, and what a person may do to them.

Holds the messages, keeps them within the context by letting the oldest turns go (they are remembered anyway), and
streams one reply at a time. Where the chat has a memory, each reply is followed by a transcript of it, from which the
chat can be gone on with after a restart. It shows nothing: whoever owns it does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from membank_llama.core.errors import BankError, InvalidInputError, ModelError
from membank_llama.core.thoughts import ThoughtStream, tag_of
from membank_llama.memory.forgotten_turns import without_turns
from membank_llama.memory.prompt_injection import LastRecall
from membank_llama.memory.text_splitting import clean_passages
from membank_llama.memory.transcript_file import ChatTranscript

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
    """One reply: its text, why it ended, how many turns were let go for it, what was recalled, and whether another chat
    has gone on with the same conversation, so that this one has had another name since."""

    text: str
    ended: Literal["stop", "length", "stopped"]
    dropped_turns: int
    recalled: LastRecall | None
    parted: bool = False


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
        self.unkept: str | None = None
        """Why the newest try to keep the transcript failed."""
        self._begun = 0.0
        self._kept_at: float | None = None
        self._parted = False
        self._told_in = ""
        self._tag = tag_of((getattr(llm, "metadata", None) or {}).get("tokenizer.chat_template"))
        self._before: set[int] = set()
        self._told: dict[int, str] = {}
        self.start_anew()

    @property
    def max_tokens(self) -> int:
        """The longest reply, in tokens."""
        return self.options.max_tokens or min(MOST_REPLY_TOKENS, int(self.llm.n_ctx()) // 4)

    @property
    def said(self) -> list[dict[str, str]]:
        """The messages without the system's."""
        return self.messages[self._first_place() :]

    @property
    def is_kept(self) -> bool:
        """Whether there is a transcript of what was said."""
        return self._keeps and bool(self.said) and self.unkept is None

    @property
    def _keeps(self) -> bool:
        return self.memory is not None and self.memory.options.remember and not self.memory.bank.read_only

    def start_anew(self) -> None:
        """Begin another conversation: nothing said before is shown to the model, but from memory."""
        system = self.options.system
        self.messages = [{"role": "system", "content": system}] if system else []
        self._begun, self._told = time.time(), {}
        if self.memory is not None:
            self._name_anew()
            self._told_in = self.memory.conversation

    def _name_anew(self) -> None:
        name = f"chat-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        # a name of its own: the default one would change with the first message, which may be let go
        self.memory.options = replace(self.memory.options, conversation=name)
        self._kept_at = None

    def _part(self) -> None:
        """Another chat has gone on with this conversation: what is said here is another one from now on."""
        self._name_anew()
        self._parted = True

    def go_on(self, chat: ChatTranscript) -> None:
        """Go on with a chat that was left: the same messages, with the same memories in them. A system message that
        this chat was given takes the place of the one there."""
        self.memory.options = replace(self.memory.options, conversation=chat.name)
        self.memory.put_back(chat.messages, chat.blocks)
        self.messages = [dict(message) for message in chat.messages]
        system = self.options.system
        if system:
            self.messages = [{"role": "system", "content": system}, *self.said]
        self._begun, self.unkept = chat.begun, None
        self._kept_at, self._told_in = chat.used, chat.name
        # what was said before is nothing that the last turn added
        self._before = self._own_ids()
        self._told = {}
        self._notice_forgotten()

    def keep(self) -> None:
        """Write the transcript as the chat stands now; where that fails, `unkept` says why and the chat goes on."""
        if not self._keeps:
            return
        self._notice_forgotten()
        options = self.memory.options
        chat = ChatTranscript(
            options.conversation,
            options.namespace,
            Path(str(getattr(self.llm, "model_path", ""))).name,
            self._begun,
            time.time(),
            tuple(self.messages),
            self.memory.kept_blocks(self.messages),
        )
        try:
            chats = self.memory.bank.chats
            if not chats.save(chat, self._kept_at):
                self._part()
                chats.save(chat := replace(chat, name=self.memory.conversation))
            self._kept_at, self.unkept = chat.used, None
        except BankError as exc:
            self.unkept = str(exc)

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
            self._notice_forgotten()
            self._notice_others()
            self._told_in = self.memory.conversation
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
                    gone = 0 if _TOO_LONG not in str(exc) or said else self._let_go(self._tokens() - 1)
                    if not gone:
                        raise ModelError(f"the model could not answer: {exc}") from exc
                    dropped += gone
        except BaseException:
            self.messages.pop()
            raise
        self._keep_reply("".join(said))
        self.keep()
        recalled = self.memory.last if self.memory is not None else None
        parted, self._parted = self._parted, False
        return SessionReply("".join(said), ended, dropped, recalled, parted)

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
        """Let the oldest turns go where the prompt leaves no room for memories and a reply; returns how many went."""
        n_ctx = int(self.llm.n_ctx())
        share = self.memory.options.budget or int(self.memory.options.share * n_ctx) if self.memory is not None else 0
        return self._let_go(n_ctx - min(self.max_tokens, n_ctx // 2) - share - MARGIN)

    def _let_go(self, room: int) -> int:
        """Let the oldest turns go where the messages are more tokens than this.

        Then so many go at once that half of what may be said is free: the head of the prompt changes, and all of it is
        evaluated again, once in many turns and not in each. Blocks of earlier turns go as well, for they are known by
        all that was said ahead of them.
        """
        sizes = [self._size(message) for message in self.messages]
        if sum(sizes) <= room:
            return 0
        first, dropped = self._first_place(), 0
        stays = sum(sizes[:first]) + sizes[-1]
        half = stays + max(0, room - stays) // 2
        while sum(sizes) > half and (gone := self._drop_oldest()):
            del sizes[first : first + gone]
            dropped += 1
        return dropped

    def _tokens(self) -> int:
        return sum(map(self._size, self.messages))

    def _size(self, message: dict[str, str]) -> int:
        return self._count(message["content"]) + MESSAGE_OVERHEAD

    def _first_place(self) -> int:
        """Of what is said: behind the system message, where there is one."""
        return 1 if self.messages and self.messages[0]["role"] == "system" else 0

    def _count(self, text: str) -> int:
        return len(self.llm.tokenize(text.encode("utf-8", "replace"), add_bos=False, special=False))

    def _drop_oldest(self) -> int:
        """Let one turn go, a message and its reply; returns how many messages, 0 where only the newest is left."""
        first = self._first_place()
        if len(self.messages) - first < 2:
            return 0
        end = first + 1
        while end < len(self.messages) - 1 and self.messages[end]["role"] != "user":
            end += 1
        del self.messages[first:end]
        return end - first

    # -- forgetting

    def _own_ids(self) -> set[int]:
        return set(self.memory.bank.select(namespace=self.memory.options.namespace, conversation=self._told_in))

    def last_ids(self) -> list[int]:
        """Ids of what the last turn added to the bank."""
        self.memory.flush()
        return sorted(self._own_ids() - self._before)

    def _notice_others(self) -> None:
        """Part before something is said to a conversation with which another chat has gone on."""
        if self._kept_at is not None:
            used = self.memory.bank.chats.used(self.memory.conversation)
            if used not in (None, self._kept_at):
                self._part()

    def _notice_forgotten(self) -> None:
        """Take back what another program has had forgotten since, as if it were said here to forget it."""
        bank, told = self.memory.bank, self._told
        gone = told.keys() - bank.exists(told)
        texts = [told.pop(memory_id) for memory_id in gone]
        passages = {passage for message in self.said for passage in clean_passages(message["content"])}
        known = bank.store.registry.holding(self.memory.options.namespace, passages)
        told.update({memory_id: text for text, memory_id in known.items()})
        if texts or self.memory.kept_blocks(self.messages):
            self.unsay(*texts)

    def unsay(self, *texts: str) -> None:
        """Take turns that hold a forgotten text, or were shown its memory, out of what the model is shown."""
        blocks = {} if self.memory is None else self.memory.kept_blocks(self.messages)
        ids = {memory_id for block, _ in blocks.values() for memory_id in block.ids}
        gone = ids - self.memory.bank.exists(ids) if ids else ids
        messages, left = without_turns(self.messages, blocks, texts, gone)
        if len(messages) == len(self.messages):
            return
        self.messages = messages
        if left:
            self.memory.put_back(messages, left)
        self.keep()

"""The engine's context: conversations that take turns, in its sequences and on the disk, evaluate what is new."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from support.asgi_server import serve
from support.banks import wait_for
from support.engines import running, user
from support.own_contexts import KEY, pieces_of, story
from support.proxies import GREEDY, assistant, engine_of, proxied

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.kv.piece_store import PieceStore
from membank_llama.memory.bank import MemBank
from membank_llama.server.asgi import AbandonedError
from membank_llama.server.engine.generation import sequences
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory

Open = Callable[..., GenerationContext]
TURN = 40


@pytest.fixture
def opened(stories_chatml_gguf: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def make(store: PieceStore | None = None, *, n_ctx: int = 2048, most: int | None = None) -> GenerationContext:
            made = GenerationContext(
                stories_chatml_gguf, n_ctx=n_ctx, n_threads=1, n_gpu_layers=0, most=most, kv_store=store
            )
            stack.callback(made.close)
            return made

        yield make


def say(context: GenerationContext, tokens: list[int], namespace: str = "", count: int = 8) -> tuple[int, list[int]]:
    """What a prompt cost, and its answer, which the context holds and keeps afterwards."""
    context.namespace = namespace
    cost, said = context.evaluate(tokens, Event()), []
    assert cost.fresh + cost.cached == len(tokens)
    for _ in range(count):
        said.append(int(np.argmax(context.logits())))
        context.push(said[-1])
    context.keep()
    return cost.fresh, said


class Talk:
    """A conversation that grows at its end, and the same one in a context of its own."""

    def __init__(self, seed: int, alone: GenerationContext, begin: int = 200, namespace: str = "") -> None:
        self.tokens, self._seed, self._alone, self.namespace = story(begin, seed), seed, alone, namespace
        self.new = begin

    def turn(self, context: GenerationContext) -> int:
        """Tokens that were evaluated beyond those that are new."""
        fresh, said = say(context, self.tokens, self.namespace)
        assert said == self._expected()
        beyond = fresh - self.new
        self._seed += 1000
        # the last token of an answer is in the context too
        self.tokens = self.tokens + said + story(TURN, self._seed)[1:]
        self.new = TURN - 1
        return beyond

    def _expected(self) -> list[int]:
        return say(self._alone, self.tokens, f"alone {self._seed % 1000}")[1]


@pytest.mark.parametrize("disk", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_conversations_taking_turns(opened: Open, store: PieceStore, count: int, disk: bool) -> None:
    context, alone = opened(store if disk else None), opened(n_ctx=4096)
    talks = [Talk(seed, alone) for seed in range(count)]
    for _ in range(4):
        for talk in talks:
            assert talk.turn(context) <= 0


def test_five_conversations_in_four_sequences(opened: Open, store: PieceStore) -> None:
    """The disk has what was thrown out."""
    context, alone = opened(store), opened(n_ctx=4096)
    talks = [Talk(seed, alone) for seed in range(5)]
    for _ in range(4):
        for talk in talks:
            assert talk.turn(context) <= 1
    assert store.counts.restores > 0


def test_without_a_disk_the_oldest_goes(opened: Open) -> None:
    context = opened()
    prompts = [story(101, seed)[1:] for seed in range(5)]
    for prompt in prompts:
        say(context, prompt)
    assert say(context, prompts[4])[0] == 1
    assert say(context, prompts[1])[0] == 1
    assert say(context, prompts[0])[0] == 100


def test_cells_run_out(opened: Open, store: PieceStore) -> None:
    context, alone = opened(store, n_ctx=768), opened(n_ctx=4096)
    talks = [Talk(seed, alone, begin=300) for seed in range(4)]
    for _ in range(3):
        for talk in talks:
            assert talk.turn(context) <= 1
    # and a prompt that needs all of it
    prompt = story(761, 99)[1:]
    fresh, said = say(context, prompt, count=4)
    assert (fresh, said) == (760, say(alone, prompt, count=4)[1])


def test_a_common_beginning_is_shared(opened: Open, store: PieceStore) -> None:
    context = opened(store)
    system = story(300)
    prompts = [system + story(60, seed)[1:] for seed in range(1, 5)]
    costs = [say(context, prompt)[0] for prompt in prompts]
    assert costs == [359, 59, 59, 59]
    assert [say(context, prompt)[0] for prompt in prompts] == [1] * 4


def test_namespaces_share_nothing(opened: Open, store: PieceStore) -> None:
    context, prompt = opened(store), story(200)
    assert say(context, prompt, "ana")[0] == 200
    assert say(context, prompt, "ben")[0] == 200
    assert say(context, prompt, "ana")[0] == 1
    again = opened(PieceStore(store.root.parent, key=KEY))
    assert [say(again, prompt, name)[0] for name in ("cleo", "ana", "ben")] == [200, 1, 1]


def test_after_a_restart(opened: Open, store: PieceStore) -> None:
    alone = opened(n_ctx=4096)
    talk = Talk(1, alone)
    first = opened(store)
    assert talk.turn(first) == 0
    assert talk.turn(first) <= 0
    first.close()
    again = opened(PieceStore(store.root.parent, key=KEY))
    assert talk.turn(again) <= 0
    assert talk.turn(again) <= 0


def test_a_context_that_grows(opened: Open, store: PieceStore) -> None:
    context, alone = opened(store, n_ctx=512, most=2048), opened(n_ctx=4096)
    talk = Talk(1, alone)
    talk.turn(context)
    context.grow(2048)
    assert context.n_ctx == 2048
    # all it held comes back from the disk
    assert talk.turn(context) <= 0


def test_what_is_abandoned_leaves_a_right_account(opened: Open, store: PieceStore) -> None:
    context, alone, cancelled = opened(store), opened(n_ctx=4096), Event()
    cancelled.set()
    prompt = story(600)
    for _ in range(2):
        with pytest.raises(AbandonedError):
            context.evaluate(prompt, cancelled)
        context.keep()
    assert say(context, prompt)[1] == say(alone, prompt)[1]
    context.close()
    again = opened(PieceStore(store.root.parent, key=KEY))
    assert say(again, prompt)[1] == say(alone, prompt)[1]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_the_logits_are_those_of_a_fresh_context(opened: Open, store: PieceStore, seed: int) -> None:
    """Prompts that grow, part, shrink and come back, of several namespaces, and the cells are few."""
    chosen = random.Random(seed)
    context, alone = opened(store, n_ctx=768), opened(n_ctx=768)
    known: list[list[int]] = [story(chosen.randrange(20, 300), n) for n in range(3)]
    for number in range(25):
        base = chosen.choice(known)
        base = base[: chosen.randrange(1, len(base) + 1)] if chosen.random() < 0.5 else base
        prompt = (base + story(chosen.randrange(2, 80), 100 + number)[1:])[-700:]
        prompt[0] = 1
        known.append(prompt)
        context.namespace = chosen.choice(("", "ana"))
        context.evaluate(prompt, Event())
        alone.namespace = f"{number}"
        alone.evaluate(prompt, Event())
        expected = alone.logits()
        # batches of another size add up in another order
        assert np.abs(context.logits() - expected).max() <= 0.01 * expected.std(), number
        say(context, prompt, context.namespace, 4)
        if number % 8 == 7:
            store.evict(0)
            for path in chosen.sample(store.files(), len(store.files()) // 3):
                path.unlink()


def test_sequences_of_a_model_that_shares_nothing(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membank_llama.server.engine.generation.generation_context.SEQUENCES", 1)
    context = opened()
    assert sequences.SEQUENCES > 1
    assert [say(context, story(101, seed)[1:])[0] for seed in (1, 2, 2)] == [100, 100, 1]


# -- behind a socket


def test_the_engine_counts_what_it_did_not_evaluate(tmp_path: Path, recall_tiny: Path) -> None:
    """Alone it knows no namespaces, so it keeps nothing on disk; its sequences are its own."""
    store = pieces_of(tmp_path / "bank")
    with running(tmp_path / "models", recall_tiny, kv_store=store) as (_, client):
        body = {"model": "recall-tiny", "messages": [user("My name is Ana. " * 8)], "stream": False, "options": GREEDY}
        first, second = (client.post("/api/chat", json=body).json() for _ in range(2))
        assert first["message"] == second["message"]
        assert second["membank"]["cached_tokens"] > 0
    assert store.files() == []


def metric(text: str, name: str) -> float:
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.fixture
def proxy(tmp_path: Path, recall_tiny: Path) -> Iterator[Callable[[PieceStore], AbstractContextManager[httpx.Client]]]:
    """Proxy and engine in one process, as `membank serve --model` has them."""

    @contextmanager
    def served(store: PieceStore) -> Iterator[httpx.Client]:
        with ExitStack() as stack:
            engine = engine_of(tmp_path, recall_tiny, kv_store=store)
            bank = stack.enter_context(MemBank(MockAdapter(), tmp_path / "memories"))
            url = stack.enter_context(serve(Proxy(engine, ProxyMemory(bank))))
            yield stack.enter_context(httpx.Client(base_url=url, timeout=60))

    yield served


def ask(client: httpx.Client, *messages: dict[str, str], **headers: str) -> dict[str, Any]:
    body = {"model": "recall-tiny", "messages": list(messages), "stream": False, "options": GREEDY}
    answered = client.post("/api/chat", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def test_behind_a_proxy_what_people_say_is_kept(
    tmp_path: Path, proxy: Callable[[PieceStore], AbstractContextManager[httpx.Client]]
) -> None:
    """And restored after a restart, and told of in the metrics; what is no conversation is not kept."""
    store, said = pieces_of(tmp_path / "bank"), user("My name is Ana and I live in Porto. " * 4)
    with proxy(store) as client:
        ask(client, user("What would be a title for a talk of Ana and Porto? " * 3), x_membank="off")
        assert metric(client.get("/metrics").text, "membank_kv_kept_pieces") == 0
        reply = ask(client, said)["message"]["content"]
        wait_for(lambda: metric(client.get("/metrics").text, "membank_kv_kept_pieces") == 1)
        ask(client, user("The dog of Ben is called Rex and sleeps all day. " * 4), x_membank_namespace="ben")
        wait_for(lambda: metric(client.get("/metrics").text, "membank_kv_kept_pieces") == 2)
    assert {store.glance(path).piece.namespace for path in store.files()} == {"default", "ben"}
    again = pieces_of(tmp_path / "bank")
    with proxy(again) as client:
        # neither a stranger's request nor another namespace's is given it
        for headers in ({"x_membank": "off", "x_membank_namespace": "ben"}, {"x_membank_namespace": "cleo"}):
            assert ask(client, said, **headers)["membank"]["cached_tokens"] <= 1
        longer = ask(client, said, assistant(reply), user("Where do I live?"))
        assert longer["membank"]["cached_tokens"] > 0.7 * longer["prompt_eval_count"]
        shown = client.get("/metrics").text
        assert metric(shown, "membank_kv_restores") == 1
        assert metric(shown, "membank_kv_restored_tokens") >= longer["membank"]["cached_tokens"] - 16
        assert metric(shown, "membank_kv_rejected") == 0
        assert metric(shown, "membank_kv_bytes") > 0


def test_an_upstream_by_its_address_is_told_nothing(tmp_path: Path, recall_tiny: Path) -> None:
    store = pieces_of(tmp_path / "bank")
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny, kv_store=store)) as through:
        through.say("My name is Ana and I live in Porto. " * 4)
    assert store.files() == []


def test_the_smallest_contexts_end_no_process(recall_tiny: Path) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from threading import Event
        from membank_llama.server.engine.generation.generation_context import GenerationContext
        for n_ctx in range(1, 9):
            context = GenerationContext(Path(sys.argv[1]), n_ctx=n_ctx, n_threads=1, n_gpu_layers=0)
            context.evaluate([1], Event())
            context.close()
        print("alive")
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(recall_tiny)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-500:]


def test_what_all_prompts_begin_with_spares_no_sequence(recall_tiny: Path) -> None:
    context = GenerationContext(recall_tiny, n_ctx=512, n_threads=1, n_gpu_layers=0)
    talks = [[1, *range(10 + 40 * n, 40 + 40 * n)] for n in range(5)]
    for talk in talks:
        assert context.evaluate(talk, Event()).cached <= 1
    # four are held: the oldest has gone, and no other
    for talk in talks[1:]:
        assert context.evaluate(talk, Event()).cached == len(talk) - 1
    context.close()

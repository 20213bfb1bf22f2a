"""The choice of a layer: one pass over several is each alone, and half depth stays unless another is clearly better."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.llama_cpp.capture import CaptureContext
from membank_llama.adapters.llama_cpp.layer_choice import (
    PARAPHRASES,
    SearchQuality,
    best_of,
    encode_layers,
    paraphrase_texts,
    search_quality,
    spread_layers,
    watching,
)
from membank_llama.adapters.pooling import resolve_layer


@pytest.fixture(scope="module")
def model(recall_tiny: Path) -> Iterator[LlamaCppAdapter]:
    with LlamaCppAdapter(recall_tiny, n_threads=1) as opened:
        assert isinstance(opened, LlamaCppAdapter)
        yield opened


def test_views_are_many_short_and_all_different() -> None:
    texts = paraphrase_texts()
    assert len(texts) == len(set(texts)) == 3 * len(PARAPHRASES) >= 120
    assert texts[:2] == [PARAPHRASES[0].told, PARAPHRASES[1].told]
    assert texts[-1] == PARAPHRASES[-1].asked
    assert all(len(text) < 60 for text in texts)
    assert all(views.asked.endswith("?") for views in PARAPHRASES)


def test_several_layers_of_one_pass_are_each_layer_alone(model: LlamaCppAdapter, recall_tiny: Path) -> None:
    texts = [*paraphrase_texts()[:30], "A long one. " * 300]
    plan = watching(model._context.plan, [0, 2, 3, 5])
    with closing(CaptureContext(model._model, plan)) as context:
        found = encode_layers(context, model._reader, texts, ["mean", "last"])
        assert model._model.n_layer == 6 and list(found) == [(n, p) for n in (0, 2, 3, 5) for p in ("mean", "last")]
        np.testing.assert_array_equal(context.states([[1, 2, 3]])[0], context.states_by_layer([[1, 2, 3]])[5][0])
    for layer, pooling in ((0, "mean"), (2, "mean"), (3, "last"), (5, "last")):
        with LlamaCppAdapter(recall_tiny, layer=layer, pooling=pooling, n_threads=1) as alone:  # type: ignore[arg-type]
            cosines = (alone.encode_batch(texts) * found[layer, pooling]).sum(axis=1)  # type: ignore[index]
        assert cosines.min() > 0.999


def test_an_embedding_model_finds_more_views_than_a_story_model(minilm_gguf: Path, stories_gguf: Path) -> None:
    found = {}
    for path in (minilm_gguf, stories_gguf):
        with LlamaCppAdapter(path, n_threads=1) as adapter:
            found[path] = search_quality(adapter.encode_batch(paraphrase_texts()))
    assert found[minilm_gguf].score > found[stories_gguf].score + 1
    assert found[minilm_gguf].mrr > 0.85
    assert found[minilm_gguf].leads(found[stories_gguf]) > 2 > found[minilm_gguf].leads(found[minilm_gguf])


def test_judging_knows_a_perfect_state_from_none() -> None:
    rng = np.random.default_rng(0)
    same = rng.standard_normal((len(PARAPHRASES), 64)).astype(np.float32)
    perfect = search_quality(np.concatenate([same, same, same]))
    nothing = search_quality(rng.standard_normal((3 * len(PARAPHRASES), 64)).astype(np.float32))
    assert perfect.mrr == 1.0 and perfect.score > 5
    assert nothing.mrr < 0.2 and abs(nothing.score) < 0.5
    # a shift of all, which rules the plain cosine, changes nothing
    shifted = search_quality(np.concatenate([same, same, same]) + 100.0)
    assert shifted.score == pytest.approx(perfect.score, rel=1e-3)


def test_half_depth_stays_unless_another_is_clearly_better() -> None:
    rng = np.random.default_rng(1)
    ranks = np.ones(80)
    half = rng.normal(2.0, 1.0, 80)
    views = {
        n: SearchQuality(half + rng.normal(lead, 0.5, 80), ranks)
        for n, lead in ((0, -1.0), (1, 0.02), (3, 1.0), (4, 2.0))
    }
    views[2] = SearchQuality(half, ranks)
    assert best_of(views, 2) == 4
    assert best_of({n: views[n] for n in (0, 1, 2)}, 2) == 2


@pytest.mark.parametrize("depth", [1, 2, 5, 12, 13, 24, 30, 48, 80])
def test_layers_are_spread_over_the_depth(depth: int) -> None:
    layers = spread_layers(depth)
    assert layers == sorted(set(layers)) and layers[0] >= 0 and layers[-1] == depth - 1
    assert resolve_layer("auto", depth) in layers and len(layers) <= 12
    if depth > 12:
        assert max(np.diff([-1, *layers])) <= depth / 6


def test_best_is_chosen_the_same_every_time_and_named(recall_tiny: Path, tiny_gguf: Path) -> None:
    ids, told = [], []
    for _ in range(2):
        with LlamaCppAdapter(
            recall_tiny,
            layer="best",
            n_threads=1,
            progress=lambda label, done, total: told.append((label, done, total)),
        ) as model:
            ids.append(model.model_id())
            # trained to find by half depth
            assert model.choice is not None and model.choice.layer == model.layer == model.choice.half == 2
            assert set(model.choice.tried) == set(range(6))
            assert "layer 2 of 0 to 5" in str(model.choice) and "40 sentences" in str(model.choice)
    assert ids[0] == ids[1] and ids[0].endswith("-L2-mean")
    assert told[-1] == ("choosing a layer", 120, 120)
    with LlamaCppAdapter(recall_tiny, n_threads=1) as model:
        assert model.choice is None and model.model_id() == ids[0]


def test_a_model_that_pools_by_itself_has_nothing_to_choose(minilm_gguf: Path) -> None:
    with LlamaCppAdapter(minilm_gguf, layer="best", n_threads=1) as model:
        assert model.choice is None and model.layer is None and model.model_id().endswith("-pooled")

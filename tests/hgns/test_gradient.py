"""The HGNS gradient against values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from membank_llama.core.errors import InvalidInputError
from membank_llama.hgns import gradient as g


def square(x: g.Floats) -> g.Floats:
    return x * x


@pytest.mark.parametrize(
    ("k", "level", "expected"),
    [
        (10, 1, 6.1),  # (3.1² − 9) / 0.1 = (9.61 − 9) / 0.1
        (10, 2, 6.01),  # (3.01² − 9) / 0.01 = (9.0601 − 9) / 0.01
        (10, 3, 6.001),
        (10, 4, 6.0001),
        (2, 1, 6.5),  # (3.5² − 9) / 0.5 = (12.25 − 9) / 0.5
        (2, 2, 6.25),  # (3.25² − 9) / 0.25 = (10.5625 − 9) / 0.25
    ],
)
def test_derivative_of_a_square(k: int, level: int, expected: float) -> None:
    assert g.derivative(square, 3.0, k, level) == pytest.approx(expected, rel=1e-9)


def test_gradient_of_a_square() -> None:
    # 6.1/10 + 6.01/100 + 6.001/1000 + 6.0001/10000
    assert g.gradient(square, 3.0) == pytest.approx(0.61 + 0.0601 + 0.006001 + 0.00060001, rel=1e-9)
    # 6.5/2 + 6.25/4
    assert g.gradient(square, 3.0, k=2, levels=2) == pytest.approx(3.25 + 1.5625, rel=1e-12)


def test_gradient_works_on_arrays() -> None:
    points = np.array([[3.0, -3.0], [0.0, 1.0]])
    # quotient of x² at step h is 2x + h
    expected = (2 * points + 0.1) / 10 + (2 * points + 0.01) / 100
    assert g.gradient(square, points, levels=2) == pytest.approx(expected, rel=1e-9)


def test_sampled_activation_by_hand() -> None:
    # slopes to the next dimension: 3, −2, 0, and the last segment goes on: 0
    values = np.array([1.0, 4.0, 2.0, 2.0], np.float32)
    assert g.sampled_derivative(values, level=3).tolist() == [3, -2, 0, 0]
    # times 1/10 + 1/100 + 1/1000 + 1/10000
    assert g.sampled_gradient(values) == pytest.approx([0.3333, -0.2222, 0, 0], rel=1e-12)
    assert g.sampled_gradient(values[np.newaxis], levels=1) == pytest.approx(np.array([[0.3, -0.2, 0, 0]]))
    assert g.sampled_gradient([5.0]).tolist() == [0.0]


@pytest.mark.parametrize(("k", "levels"), [(10, 4), (2, 6), (3, 1)])
def test_a_sampled_activation_is_the_function_read_between_its_dimensions(k: int, levels: int) -> None:
    values = np.random.default_rng(0).standard_normal(50)
    beyond = np.append(values, 2 * values[-1] - values[-2])

    def read(x: g.Floats) -> g.Floats:
        return np.asarray(np.interp(x, np.arange(51), beyond), np.float64)

    expected = g.gradient(read, np.arange(50.0), k, levels)
    assert g.sampled_gradient(values, k, levels) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_saliency_keeps_the_steepest_and_of_equals_the_first() -> None:
    values = np.array([[0, 5, 5, 4, 5, 5], [0, 1, 2, 3, 4, 5]], np.float32)
    # |slopes|: 5 0 1 1 0 0 and 1 1 1 1 1 1
    assert g.salient_dims(values, 2).tolist() == [[0, 2], [0, 1]]
    assert g.salient_dims(values, 4).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert g.saliency_mask(values, 2).tolist() == [[1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert g.saliency_mask(values[0], 1).tolist() == [1, 0, 0, 0, 0, 0]


def test_attributes_converge() -> None:
    # ∇v = −v, η = ½ halves v: Δ = .5, .25, .125, .0625 < .1
    result = g.converge([1.0], lambda v: -v, eta=0.5, epsilon=0.1)
    assert (result.value.tolist(), result.converged, result.steps, result.delta) == (
        [0.0625],
        True,
        4,
        0.0625,
    )


def test_attributes_that_run_out_of_iterations() -> None:
    result = g.converge([1.0], lambda v: -v, eta=0.5, epsilon=0.1, max_iterations=3)
    assert (result.value.tolist(), result.converged, result.steps, result.delta) == ([0.125], False, 3, 0.125)


def test_attributes_that_run_away_stay_finite() -> None:
    result = g.converge([[1.0], [0.0]], lambda v: v, eta=1e6)
    assert np.isfinite(result.value).all()
    assert not result.converged
    assert result.steps < 1000
    assert result.value[1] == 0


def test_rows_converge_on_their_own() -> None:
    start = np.array([[1.0, 0.0], [100.0, -7.0], [0.0, 0.0]])
    together = g.converge(start, lambda v: -v, eta=0.3)
    assert together.converged
    for row, value in zip(start, together.value, strict=True):
        assert (g.converge(row, lambda v: -v, eta=0.3).value == value).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: g.derivative(square, 1.0, k=1), "k must be"),
        (lambda: g.derivative(square, 1.0, k=2.5), "k must be"),  # type: ignore[arg-type]
        (lambda: g.derivative(square, 1.0, level=0), "level must be"),
        (lambda: g.gradient(square, 1.0, levels=0), "level must be"),
        (lambda: g.gradient(square, 1.0, levels=True), "level must be"),
        (lambda: g.gradient(square, 1.0, levels=20), "lost in float64"),
        (lambda: g.gradient(lambda x: x[:1], np.zeros(3)), "return the same"),
        (lambda: g.sampled_gradient(np.zeros((2, 2, 2))), "shape"),
        (lambda: g.sampled_gradient([]), "shape"),
        (lambda: g.sampled_gradient([1.0], k=0), "k must be"),
        (lambda: g.salient_dims([1.0, 2.0], 3), "cannot keep 3 of 2"),
        (lambda: g.salient_dims([1.0, 2.0], 0), "cannot keep 0 of 2"),
        (lambda: g.converge([1.0], np.negative, eta=0), "eta must be"),
        (lambda: g.converge([1.0], np.negative, eta=float("nan")), "eta must be"),
        (lambda: g.converge([1.0], np.negative, epsilon=-1), "epsilon must be"),
        (lambda: g.converge([1.0], np.negative, max_iterations=0), "max_iterations must be"),
        (lambda: g.converge(1.0, np.negative), "start must have shape"),
    ],
)
def test_impossible_parameters(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        call()

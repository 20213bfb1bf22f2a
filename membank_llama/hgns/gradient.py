"""The HGNS gradient, vectorised: derivative quotients at steps 1/kˡ, summed with geometric decay.

    ∂⁽ˡ⁾f(x) = [f(x + 1/kˡ) − f(x)] / (1/kˡ)        ∇ᴸf(x) = Σ_{l=1..L} ∂⁽ˡ⁾f(x) / kˡ

An activation is a function known at its dimensions 0, 1, … d−1 and read between them by linear interpolation;
beyond the last dimension its last segment goes on, so the last two dimensions have the same gradient. Every
quotient of such a function is the slope of the segment to the right. Numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import InvalidInputError

DEFAULT_K = 10
DEFAULT_LEVELS = 4

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats], npt.ArrayLike]


def derivative(f: Function, x: npt.ArrayLike, k: int = DEFAULT_K, level: int = 1) -> Floats:
    """∂⁽ˡ⁾f at `x`, elementwise, float64 of the shape of `x`; `f` maps an array to one of the same shape.

    Raises:
        InvalidInputError: k below 2, level below 1, a step too small for float64, or f changes the shape.
    """
    step = _step(k, level)
    points = np.asarray(x, np.float64)
    return (_apply(f, points + step) - _apply(f, points)) / step


def gradient(f: Function, x: npt.ArrayLike, k: int = DEFAULT_K, levels: int = DEFAULT_LEVELS) -> Floats:
    """∇ᴸf at `x`, elementwise; `levels` is L. Raises as `derivative`."""
    check_base(k, levels)
    total = np.zeros(np.shape(x), np.float64)
    for level in range(1, levels + 1):
        total += derivative(f, x, k, level) / float(k) ** level
    return total


def sampled_derivative(values: npt.ArrayLike, k: int = DEFAULT_K, level: int = 1) -> Floats:
    """∂⁽ˡ⁾ of sampled activations at each of their dimensions, shape (d,) or (n, d), float64.

    Linear between dimensions, the quotient is the difference to the next dimension whatever k and level are;
    they are checked all the same. A single dimension has gradient 0.
    """
    _step(k, level)
    samples = np.asarray(values, np.float64)
    if samples.ndim not in (1, 2) or samples.shape[-1] == 0:
        raise InvalidInputError(f"activations must have shape (d,) or (n, d) with d > 0, got {samples.shape}")
    if samples.shape[-1] == 1:
        return np.zeros_like(samples)
    slopes = np.diff(samples, axis=-1)
    return np.concatenate([slopes, slopes[..., -1:]], axis=-1)


def sampled_gradient(values: npt.ArrayLike, k: int = DEFAULT_K, levels: int = DEFAULT_LEVELS) -> Floats:
    """∇ᴸ of sampled activations at each of their dimensions, shape (d,) or (n, d), float64."""
    check_base(k, levels)
    decay = sum(float(k) ** -level for level in range(1, levels + 1))
    return sampled_derivative(values, k) * decay


def salient_dims(
    values: npt.ArrayLike, count: int, k: int = DEFAULT_K, levels: int = DEFAULT_LEVELS
) -> npt.NDArray[np.intp]:
    """The `count` dimensions with the largest |∇ᴸ| of each row, rising, shape (count,) or (n, count).

    Of equal ones the lower dimension is taken.

    Raises:
        InvalidInputError: count outside 1 to d.
    """
    size = np.abs(sampled_gradient(values, k, levels))
    if not 1 <= count <= size.shape[-1]:
        raise InvalidInputError(f"cannot keep {count} of {size.shape[-1]} dimensions")
    order = np.argsort(-size, axis=-1, kind="stable")[..., :count]
    return np.sort(order, axis=-1)


def saliency_mask(
    values: npt.ArrayLike, count: int, k: int = DEFAULT_K, levels: int = DEFAULT_LEVELS
) -> npt.NDArray[np.bool_]:
    """True at the `count` most salient dimensions of each row, shape of `values`; as `salient_dims`."""
    dims = salient_dims(values, count, k, levels)
    mask = np.zeros(np.shape(values), np.bool_)
    np.put_along_axis(mask, dims, True, axis=-1)
    return mask


@dataclass(frozen=True)
class Convergence:
    """How an attribute iteration ended.

    `value` has the shape of the start. `steps` counts the updates of the slowest row, `delta` is the largest
    last ‖Δv‖ of any row. Not converged: the bound was reached, or a row left the finite numbers and was
    kept as it was before.
    """

    value: Floats
    converged: bool
    steps: int
    delta: float


def converge(
    start: npt.ArrayLike,
    nabla: Function,
    *,
    eta: float = 0.1,
    epsilon: float = 1e-6,
    max_iterations: int = 1000,
) -> Convergence:
    """Attribute convergence: v ← v + η·∇v until ‖Δv‖ < ε, row by row.

    Args:
        start: shape (d,) or (n, d). A row that has converged is held, whatever the others do.
        nabla: maps values of that shape to their gradient, of the same shape.

    Raises:
        InvalidInputError: eta or epsilon not positive and finite, max_iterations below 1, or another shape.
    """
    _check_positive("eta", eta)
    _check_positive("epsilon", epsilon)
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise InvalidInputError(f"max_iterations must be a whole number of at least 1, got {max_iterations!r}")
    value = np.array(start, np.float64)
    if value.ndim not in (1, 2):
        raise InvalidInputError(f"start must have shape (d,) or (n, d), got {value.shape}")
    delta = np.full(value.shape[:-1], np.inf)
    running = np.ones(value.shape[:-1], np.bool_)
    steps = 0
    while steps < max_iterations and running.any():
        steps += 1
        # overflow is an outcome here (not converged), not a fault to warn of
        with np.errstate(over="ignore", invalid="ignore"):
            change = eta * _apply(nabla, value)
            norm = np.linalg.norm(change, axis=-1)
        finite = np.isfinite(norm)
        move = running & finite
        value = np.where(move[..., np.newaxis], value + change, value)
        delta = np.where(running, norm, delta)
        running = move & (norm >= epsilon)
    return Convergence(value, bool((delta < epsilon).all()), steps, float(delta.max(initial=0.0)))


def check_base(k: int, levels: int) -> None:
    """Hold k and L against what float64 can step by.

    Raises:
        InvalidInputError: k below 2, levels below 1, or 1/k**levels too small.
    """
    _step(k, levels)


def _step(k: int, level: int) -> float:
    for name, value, least in (("k", k, 2), ("level", level, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    step = float(k) ** -min(level, 64)
    if step < 2.0**-44:
        raise InvalidInputError(f"a step of 1/{k}**{level} is lost in float64; use fewer levels or a smaller k")
    return step


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidInputError(f"{name} must be a positive, finite number, got {value!r}")


def _apply(f: Function, points: Floats) -> Floats:
    result = np.asarray(f(points), np.float64)
    if result.shape != points.shape:
        raise InvalidInputError(f"the function returned shape {result.shape} for {points.shape}; return the same")
    return result

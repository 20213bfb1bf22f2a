"""`SamplingOptions`: how one answer is sampled, resolved once from the request, the Modelfile and Ollama's defaults.

Names, defaults and types are those of Ollama's `options`. A value of the wrong type is the caller's mistake
and is refused by name; an option nobody knows here is passed over, as Ollama does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...asgi import WireError

_log = logging.getLogger("membank_llama")
_MOST = 2**31 - 1
_MOST_STOPS, _LONGEST_STOP = 256, 4096


@dataclass(frozen=True)
class SamplingOptions:
    """The values a generation is run with; `None` where the loaded model decides."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    seed: int = -1
    stop: tuple[str, ...] = ()
    num_predict: int = -1
    num_ctx: int | None = None
    num_thread: int | None = None


_KINDS = {field.name: str(field.type).partition(" ")[0].partition("[")[0] for field in fields(SamplingOptions)}


def resolve(parameters: Mapping[str, Any], given: Mapping[str, Any] | None) -> SamplingOptions:
    """The options of a request over those of its model.

    Raises:
        WireError: a value is of the wrong type or out of range.
    """
    values: dict[str, Any] = {}
    for source in (parameters, given or {}):
        for name, value in source.items():
            if value is None:
                continue
            if name not in _KINDS:
                _log.debug("the option %.64r is not known here and is passed over", name)
                continue
            values[name] = _checked(name, value)
    return SamplingOptions(**values)


def _checked(name: str, value: Any) -> Any:
    kind = _KINDS[name]
    if kind == "tuple":
        return _strings(name, value)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise WireError(400, f'option "{name}" must be of type {"integer" if kind == "int" else "float32"}')
    if abs(value) > 2 * _MOST:
        raise WireError(400, f'option "{name}" is out of range')
    number = int(value) if kind == "int" else float(value)
    if name == "num_ctx" and number < 1:
        raise WireError(400, 'option "num_ctx" must be at least 1')
    return number if name == "seed" or kind == "float" else max(-_MOST, min(_MOST, int(number)))


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise WireError(400, f'option "{name}" must be of type array')
    if not all(isinstance(one, str) for one in value):
        raise WireError(400, f'option "{name}" must be of an array of strings')
    if len(value) > _MOST_STOPS or any(len(one) > _LONGEST_STOP for one in value):
        raise WireError(400, f'option "{name}" takes {_MOST_STOPS} strings of {_LONGEST_STOP:,} characters at most')
    return tuple(one for one in value if one)

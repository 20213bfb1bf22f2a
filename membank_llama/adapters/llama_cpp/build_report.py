"""How llama.cpp was built: what of the processor it uses, and whether it can use a graphics card.

`python -m` runs it as a process of its own: a llama.cpp that was compiled for another processor dies when it is asked.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import llama_cpp


def build_report() -> dict[str, Any]:
    """``{"version", "features", "gpu"}``: of llama-cpp-python, of the processor, and whether layers can be put on a
    card."""
    info = llama_cpp.llama_print_system_info().decode("utf-8", "replace")
    return {
        "version": llama_cpp.__version__,
        "features": re.findall(r"(\w+) = 1\b", info),
        "gpu": bool(llama_cpp.llama_supports_gpu_offload()),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(build_report()))

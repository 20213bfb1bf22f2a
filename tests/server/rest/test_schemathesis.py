"""The description held against the server by schemathesis: made-up requests, as described and not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.proxies import Running

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
)
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis (the dev extra)"
)


def hold(running: Running, folder: Path, phases: str, examples: int) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/membank/openapi.json", "--no-color"]
    command += ["--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", str(examples)]
    command += ["--generation-deterministic", "--warnings", "off"]
    environment = {**os.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    # it is alive
    assert httpx.get(f"{running.url}/membank/stats", timeout=20).status_code == 200


def test_made_up_requests_are_answered_as_described(running: Running, tmp_path: Path) -> None:
    hold(running, tmp_path, "fuzzing", 8)


@pytest.mark.attack
def test_many_made_up_requests_are_answered_as_described(running: Running, tmp_path: Path) -> None:
    hold(running, tmp_path, "coverage,fuzzing,stateful", 60)

"""The service files: they parse, fit together, and give `membank serve` options that it has."""

from __future__ import annotations

import configparser
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from membank_llama.cli.app import app

FOLDER = Path(__file__).resolve().parent.parent.parent / "hooks" / "ollama"
ROOT = FOLDER.parent.parent
UNIT, DROP_IN = FOLDER / "membank.service", FOLDER / "ollama.service.d" / "zz-membank.conf"


def ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def plist(name: str) -> dict[str, Any]:
    with (FOLDER / name).open("rb") as file:
        return plistlib.load(file)


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def commands() -> dict[str, list[str]]:
    """What each file runs, without the program."""
    return {
        "systemd": shlex.split(ini(UNIT)["Service"]["ExecStart"])[1:],
        "launchd": plist("org.membank.serve.plist")["ProgramArguments"][1:],
        "compose": compose()["services"]["membank"]["command"],
    }


def options(command: list[str]) -> dict[str, str]:
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_every_option_is_one_of_membank_serve() -> None:
    serve = getattr(get_command(app), "commands", {}).get("serve")
    if serve is None:
        pytest.skip("membank serve is not there yet")
    for where, command in commands().items():
        assert command[0] == "serve", where
        # parses names and values alike, and runs nothing
        with serve.make_context("serve", command[1:]) as context:
            assert context.params["port"] == 11434, where


def test_ollama_moves_to_where_membank_asks_it() -> None:
    moved = shlex.split(ini(DROP_IN)["Service"]["Environment"])[0]
    agent = plist("org.membank.ollama-host.plist")["ProgramArguments"]
    assert moved == "OLLAMA_HOST=127.0.0.1:11436" == "=".join(agent[-2:])
    assert agent[:2] == ["/bin/launchctl", "setenv"]
    run = commands()
    for where in ("systemd", "launchd"):
        assert options(run[where]) == {
            "--upstream": f"http://{moved.partition('=')[2]}",
            "--host": "127.0.0.1",
            "--port": "11434",
        }


def test_the_unit_ends_gently_and_keeps_its_bank() -> None:
    service = ini(UNIT)["Service"]
    assert int(service["TimeoutStopSec"]) >= 60 and "KillSignal" not in service
    bank = service["Environment"].removeprefix("MEMBANK_BANK=")
    assert PurePosixPath(bank).is_relative_to(PurePosixPath("/var/lib") / service["StateDirectory"])
    assert service["ProtectSystem"] == "strict" and "MemoryDenyWriteExecute" not in service
    assert DROP_IN.name > "override.conf", "the last drop-in wins"
    agent = plist("org.membank.serve.plist")
    assert agent["ExitTimeOut"] >= 60 and agent["KeepAlive"] is True


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    # the program is not installed here
    unit.write_text(text.replace("/opt/membank/bin/membank", sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr


def test_compose_publishes_membank_alone() -> None:
    services = compose()["services"]
    assert "ports" not in services["ollama"]
    assert services["membank"]["ports"] == ["127.0.0.1:11434:11434"]
    assert services["open-webui"]["ports"] == ["127.0.0.1:3000:8080"]
    run = options(services["membank"]["command"])
    upstream = urlsplit(run["--upstream"])
    assert upstream.hostname in services and upstream.port == 11434
    assert services["open-webui"]["environment"]["OLLAMA_BASE_URL"] == f"http://membank:{run['--port']}"


def test_compose_shows_membank_the_models_of_ollama() -> None:
    whole = compose()
    membank, ollama = whole["services"]["membank"], whole["services"]["ollama"]
    mounted = [volume.split(":") for volume in membank["volumes"]]
    models, bank = mounted
    assert ollama["volumes"] == [f"{models[0]}:/root/.ollama"] and models[2] == "ro"
    assert membank["environment"]["OLLAMA_MODELS"] == f"{models[1]}/models"
    assert PurePosixPath(membank["environment"]["MEMBANK_BANK"]).is_relative_to(bank[1])
    named = {volume.split(":")[0] for service in whole["services"].values() for volume in service["volumes"]}
    assert named == set(whole["volumes"])
    assert int(membank["stop_grace_period"].removesuffix("s")) >= 60


def test_the_image_is_built_from_what_the_package_needs() -> None:
    build = compose()["services"]["membank"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    dockerfile = ROOT / build["dockerfile"]
    text = dockerfile.read_text(encoding="utf-8")
    assert text.count("FROM python:3.12-slim") == 2 and "USER membank" in text
    ignored = dockerfile.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8")
    kept = re.findall(r"^!(.+)$", ignored, re.MULTILINE)
    assert {"membank_llama", "pyproject.toml", "setup.py", "models/recall-tiny.gguf"} <= set(kept)
    assert all((ROOT / path).exists() for path in kept)


@pytest.mark.parametrize("page", ["README.md", "ollama/README.md", "open_webui/README.md"])
def test_links_of_the_hooks_lead_somewhere(page: str) -> None:
    path = ROOT / "hooks" / page
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{page} links to {target}"

"""README and docs say what is true: examples run, every command is named, every link leads somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from membank_llama.cli.app import app
from membank_llama.gguf.builtin import embedded_model

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("[a-z]*/README.md"))]
EXAMPLES = re.findall(r"<!-- runs in tests/test_readme\.py -->\n```python\n(.*?)```", README, re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_run(
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(embedded_model(), tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    quick = code.replace("}])", "}], max_tokens=64, temperature=0.0)")
    quick = quick.replace("n_ctx=2048", "n_ctx=1024, n_threads=1, verbose=False")
    exec(compile(quick, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    promised = re.findall(r"  # (.*\.)$", code, re.MULTILINE)
    assert all(line in printed for line in promised)
    assert "Porto" in printed or "boiler" in printed


def test_every_command_is_in_the_readme() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        if not command.hidden:
            assert re.search(rf"`[^`]*\b{re.escape(name)}\b", README), f"membank {name} is not in README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"

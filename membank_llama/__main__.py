"""``python -m membank_llama`` is ``membank``."""

from __future__ import annotations

from .cli.app import main

if __name__ == "__main__":
    main()

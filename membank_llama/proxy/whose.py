"""Whose memory a request gets: by bearer token, path, header or the end of the model's name.

Where tokens are given out, a request without one of them is refused, and nothing that it says of itself leads to
another namespace. Without tokens whoever reaches the port may name any. Two that disagree are an error, never a guess.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

from ..days import zone_named
from ..errors import InvalidInputError
from ..types import DEFAULT_NAMESPACE
from ..wire import Scope, WireError, header

HEADER = "x-membank-namespace"
TIME_ZONE = "x-membank-timezone"
_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")
_PATH = re.compile(r"/ns/([^/]+)(/.*)?")
_DIGEST = re.compile(r"sha256[-:]")


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens and the namespaces they open; none: no token is asked for."""

    by_token: Mapping[str, str]

    @classmethod
    def read(cls, path: Path | None) -> Tokens:
        """From a file of lines ``NAMESPACE TOKEN``; blank lines and those that begin with # do not count.

        Raises:
            InvalidInputError: it cannot be read, or a line is none such.
        """
        if path is None:
            return cls({})
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidInputError(f"{path} cannot be read: {exc}; give a file of lines NAMESPACE TOKEN") from exc
        found: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 2 or not _NAME.fullmatch(words[0]) or words[1] in found:
                raise InvalidInputError(f"{path}, line {number}: write a namespace and a token of its own, no more")
            found[words[1]] = words[0]
        if not found:
            raise InvalidInputError(f"{path} holds no token; write lines NAMESPACE TOKEN, or leave --tokens out")
        return cls(found)

    def namespace(self, scope: Scope) -> str | None:
        """The namespace that this request's token opens; None where no tokens are asked for.

        Raises:
            WireError: 401, the token is missing or none of these.
        """
        if not self.by_token:
            return None
        kind, _, given = (header(scope, "authorization") or "").partition(" ")
        opened = None
        for token, name in self.by_token.items():
            # each is compared, so that time tells nothing
            if hmac.compare_digest(token.encode(), given.strip().encode("latin-1")):
                opened = name
        if kind.lower() != "bearer" or opened is None:
            raise WireError(401, "unauthorized: send one of this proxy's tokens as Authorization: Bearer TOKEN")
        return opened


def split_path(path: str) -> tuple[str | None, str]:
    """The namespace that a path begins with, ``/ns/NAME``, and the rest of it.

    Raises:
        WireError: 400, no name that a namespace can have.
    """
    found = _PATH.fullmatch(path)
    return (None, path) if found is None else (checked_name(found[1]), found[2] or "/")


def split_model(model: Any) -> tuple[str | None, Any]:
    """The namespace at the end of a model's name, ``llama3.2@work``, and the name without it."""
    if not isinstance(model, str) or "@" not in model:
        return None, model
    front, _, name = model.rpartition("@")
    if not front or _DIGEST.match(name):
        return None, model
    return checked_name(name), front


def checked_name(name: str) -> str:
    """A namespace's name.

    Raises:
        WireError: 400, it can be none.
    """
    if not _NAME.fullmatch(name):
        raise WireError(400, f"{name[:80]!r} is no namespace: use up to 64 letters, digits and . _ + -")
    return name


def whose(opened: str | None, *named: str | None) -> str:
    """The one namespace that a request is for.

    Args:
        opened: by its token, where tokens are asked for.
        named: in path, header and model.

    Raises:
        WireError: 400, they name different ones; 403, another than the token's.
    """
    names = {name for name in named if name is not None}
    if opened is not None and names - {opened}:
        raise WireError(403, "this token opens another namespace than the one the request names")
    if len(names) > 1:
        raise WireError(400, f"the request names several namespaces ({', '.join(sorted(names))}); name one")
    return opened or next(iter(names), DEFAULT_NAMESPACE)


def zone_of(scope: Scope) -> tzinfo | None:
    """The time zone that a request names, whose days its questions mean; None for this machine's.

    Raises:
        WireError: 400, there is no such zone.
    """
    name = header(scope, TIME_ZONE)
    if name is None:
        return None
    try:
        return zone_named(name)
    except InvalidInputError as exc:
        raise WireError(400, f"{TIME_ZONE}: {exc}") from exc

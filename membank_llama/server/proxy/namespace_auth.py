"""Whose memory a request gets: by bearer token, path, header or the end of the model's name.

Where tokens are given out, a request without one of them is refused, and nothing that it says of itself leads to
another namespace; models, which all share, are changed by administrators alone. Without tokens whoever reaches the port
may name any namespace. Two that disagree are an error, never a guess.

A request has one path, whatever way a client wrote it: base addresses that end in a slash give `//api/chat`, which is
`/api/chat`. What is no path at all, as in a request to another server, is refused before anything is decided by it.
"""

from __future__ import annotations

import hmac
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.requests import cookie_parser

from membank_llama.core.days import zone_named
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import DEFAULT_NAMESPACE

from ..asgi import Scope, WireError, header, headers
from ..origins import is_of_own_page

NAMESPACE_HEADER = "x-membank-namespace"
TIME_ZONE_HEADER = "x-membank-timezone"
SIGN_IN_COOKIE = "membank_token"
"""Where a browser, which can send no header of its own, keeps the token that somebody signed in with."""

_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")
_MOST_PIECES = 4 * 64
"""Of a name whose letters come in pieces; to compose a heap of accents takes time squared."""
_DIGEST = re.compile(r"sha256[-:]")
_ADMIN = "admin"
_MODEL_FIELDS = ("model", "name")
_SLASHES = re.compile(rb"/{2,}")
_PREFIX = re.compile(rb"/ns/([^/]+)(/.*)?", re.DOTALL)


@dataclass(frozen=True)
class Caller:
    """Who a request comes from, and which namespaces it names.

    Args:
        opened: the namespace that its token opens; None where no token is asked for.
        is_admin: whether it may change the models.
        named: the namespaces that its path and its header name.
    """

    opened: str | None
    is_admin: bool
    named: tuple[str | None, ...] = ()

    def namespace(self, by_model: str | None = None) -> str:
        """The one namespace that the request is for, given the one at the end of its model's name.

        Raises:
            WireError: 400, they name different ones; 403, another than the token's.
        """
        names = {name for name in (*self.named, by_model) if name is not None}
        if self.opened is not None and names - {self.opened}:
            raise WireError(403, "this token opens another namespace than the one the request names")
        if len(names) > 1:
            raise WireError(400, f"the request names several namespaces ({', '.join(sorted(names))}); name one")
        return self.opened or next(iter(names), DEFAULT_NAMESPACE)

    def namespace_of(self, body: bytes, parsed: dict[str, Any] | None) -> tuple[str, bytes, dict[str, Any] | None]:
        """The namespace that a request is for, and its body without a namespace at the end of the model's name.

        Args:
            parsed: the body's JSON object; None where it is none.

        Raises:
            WireError: as in `namespace`, or the model's name ends in what can be no namespace.
        """
        for field in _MODEL_FIELDS if parsed is not None else ():
            name, model = split_model(parsed.get(field))  # type: ignore[union-attr]
            if name is not None:
                parsed = {**(parsed or {}), field: model}
                return self.namespace(name), json.dumps(parsed, separators=(",", ":")).encode(), parsed
        return self.namespace(), body, parsed


@dataclass(frozen=True)
class BearerTokens:
    """Bearer tokens and the namespaces they open, and those of administrators; none: no token is asked for."""

    by_token: Mapping[str, str]
    admins: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path | None) -> BearerTokens:
        """From a file of lines ``NAMESPACE TOKEN`` or ``NAMESPACE TOKEN admin``; blank lines and those that begin with
        # do not count.

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
        admins = set()
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[2:] not in ([], [_ADMIN]) or len(words) < 2 or words[1] in found or not _is_name(words[0]):
                raise InvalidInputError(
                    f"{path}, line {number}: write a namespace and a token of its own, with {_ADMIN} after them where "
                    "it may change models, and no more"
                )
            found[words[1]] = unicodedata.normalize("NFC", words[0])
            if words[2:]:
                admins.add(words[1])
        if not found:
            raise InvalidInputError(f"{path} holds no token; write lines NAMESPACE TOKEN, or leave --tokens out")
        return cls(found, frozenset(admins))

    def caller(self, scope: Scope, by_path: str | None = None, *, by_cookie: bool = False) -> Caller:
        """Whose token a request brings.

        Args:
            by_path: the namespace that its path begins with.
            by_cookie: whether the token may be one that a browser keeps for a page of this server.

        Raises:
            WireError: 401, the token is missing or none of these; 400, the header holds no namespace, or several.
        """
        if not self.by_token:
            return Caller(None, True, (by_path, named_by_header(scope)))
        known = self._known(_token_of(scope, by_cookie))
        if known is None:
            raise WireError(
                401,
                "unauthorized: send one of this proxy's tokens as Authorization: Bearer TOKEN, or as X-Api-Key: TOKEN",
            )
        return Caller(self.by_token[known], known in self.admins, (by_path, named_by_header(scope)))

    def opens(self, token: str) -> bool:
        """Whether this is one of the tokens."""
        return self._known(token.encode("utf-8", "replace")) is not None

    def _known(self, given: bytes) -> str | None:
        found = None
        for token in self.by_token:
            # each is compared, so that time tells nothing
            if hmac.compare_digest(token.encode(), given):
                found = token
        return found


def _token_of(scope: Scope, by_cookie: bool) -> bytes:
    """The one token that a request brings; empty where it brings none, or several."""
    sent = set(headers(scope, "authorization"))
    # Anthropic's clients have a header of their own
    keys = set(headers(scope, "x-api-key"))
    if keys and not sent:
        sent = {b"bearer " + key for key in keys}
    if not sent and by_cookie and is_of_own_page(scope):
        kept = cookie_parser(header(scope, "cookie") or "").get(SIGN_IN_COOKIE, "")
        return kept.encode("utf-8", "replace")
    kind, _, given = (sent.pop() if len(sent) == 1 else b"").partition(b" ")
    return given.strip() if kind.lower() == b"bearer" else b""


def located(scope: Scope) -> tuple[str | None, Scope]:
    """The namespace that a request's path names, if any, and the request without it.

    Raises:
        WireError: 400, it has no path, or what stands there can be no namespace.
    """
    raw = bytes(scope.get("raw_path") or scope["path"].encode())
    if not raw.startswith(b"/"):
        raise WireError(400, "the request names no path of this server; begin it with /")
    raw = _SLASHES.sub(b"/", raw)
    name, found = None, _PREFIX.fullmatch(raw)
    if found is not None:
        name, raw = checked_name(unquote(found[1].decode("latin-1"))), found[2] or b"/"
    elif _decoded(raw).startswith("/ns/"):
        raise WireError(400, "write the namespace as /ns/NAME/…, with its slashes as they are")
    return name, {**scope, "path": _decoded(raw), "raw_path": raw}


def _decoded(raw: bytes) -> str:
    return unquote(raw.decode("latin-1"))


def named_by_header(scope: Scope) -> str | None:
    """The namespace in a request's header, which is UTF-8; Latin-1 where it cannot be.

    Raises:
        WireError: 400, it is none, or there are several.
    """
    names = {checked_name(_text(value).strip()) for value in headers(scope, NAMESPACE_HEADER)}
    if len(names) > 1:
        raise WireError(400, f"the request names several namespaces ({', '.join(sorted(names))}); name one")
    return names.pop() if names else None


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def split_model(model: Any) -> tuple[str | None, Any]:
    """The namespace at the end of a model's name, ``llama3.2@work``, and the name without it."""
    if not isinstance(model, str) or "@" not in model:
        return None, model
    front, _, name = model.rpartition("@")
    if not front or _DIGEST.match(name):
        return None, model
    return checked_name(name), front


def checked_name(name: str) -> str:
    """A namespace's name in its one spelling: composed (NFC), and no letter that is another one in disguise.

    Raises:
        WireError: 400, it can be none.
    """
    if not _is_name(name):
        raise WireError(400, f"{name[:80]!r} is no namespace: use up to 64 letters, digits and . _ + -")
    return unicodedata.normalize("NFC", name)


def _is_name(name: str) -> bool:
    if len(name) > _MOST_PIECES:
        return False
    composed = unicodedata.normalize("NFC", name)
    # full-width letters, ligatures and the like look as others do and would be namespaces of their own
    return _NAME.fullmatch(composed) is not None and unicodedata.is_normalized("NFKC", composed)


def zone_of(scope: Scope) -> tzinfo | None:
    """The time zone that a request names, whose days its questions mean; None for this machine's.

    Raises:
        WireError: 400, there is no such zone.
    """
    name = header(scope, TIME_ZONE_HEADER)
    if name is None:
        return None
    try:
        return zone_named(name)
    except InvalidInputError as exc:
        raise WireError(400, f"{TIME_ZONE_HEADER}: {exc}") from exc

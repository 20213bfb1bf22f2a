"""What a pull may ask over the network: public addresses, and private ones that whoever started the server has named.

Whoever may pull a model names the host it comes from, and that host names the next one by a redirect. Without a look at
where that leads, this machine would ask its own network's services on behalf of a stranger. So every address is looked
up here, checked, and connected to as it was checked; https never becomes http, http stays on its host; and nothing that
a foreign server says stands in an error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache

import httpx

from ...asgi import WireError

REGISTRY = "MEMBANK_REGISTRY"
PRIVATE = "MEMBANK_PRIVATE_REGISTRIES"
SECONDS = 30.0
CONNECT_SECONDS = 10.0
LOOKUP_SECONDS = 15.0
MOST_REDIRECTS = 5
_MOST_ADDRESSES = 4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# names that nobody answers for must not keep the threads that everything else needs
_lookups = ThreadPoolExecutor(4, thread_name_prefix="membank-lookup")
_PORTS = {"http": 80, "https": 443}


@asynccontextmanager
async def asked(url: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
    """The answer to a GET, its body unread and as it was sent.

    Raises:
        WireError: the address is none, is private, or leads where it may not; the other side does not answer.
    """
    try:
        at = httpx.URL(url)
        for _ in range(MOST_REDIRECTS + 1):
            async with _connected(at, headers) as response:
                if not response.is_redirect:
                    encoding = response.headers.get("content-encoding", "identity")
                    if encoding != "identity":
                        raise WireError(
                            502, "pull model: the registry sends a compressed answer, which was not asked for"
                        )
                    yield response
                    return
                at = _next(at, response)
    except httpx.InvalidURL as exc:
        raise WireError(400, "invalid model name: its host is none") from exc
    except httpx.HTTPError as exc:
        raise WireError(
            502, f"pull model: {at.host} cannot be reached or broke off ({type(exc).__name__}); pull again to go on"
        ) from exc
    raise WireError(502, f"pull model: {at.host} leads in circles")


def _next(at: httpx.URL, response: httpx.Response) -> httpx.URL:
    to = at.join(response.headers.get("location", ""))
    same = (to.scheme, to.host, to.port) == (at.scheme, at.host, at.port)
    if to.userinfo or not (to.scheme == "https" or same):
        raise WireError(502, f"pull model: {at.host} leads elsewhere without encryption, which is not followed")
    return to


@asynccontextmanager
async def _connected(url: httpx.URL, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
    """One request, to the first address of its host that takes it."""
    timeout = httpx.Timeout(SECONDS, connect=CONNECT_SECONDS, read=2 * SECONDS)
    sent = {"Accept-Encoding": "identity", **headers}
    proxy = _proxy_for(url)
    addresses = await _addresses(url, proxied=proxy is not None)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False, proxy=proxy, verify=_certificates()) as client:
        if proxy is not None:
            request = client.build_request("GET", url, headers=sent)
            response = await client.send(request, stream=True)
        else:
            response = await _first(client, url, addresses, sent)
        try:
            yield response
        finally:
            await response.aclose()


async def _first(
    client: httpx.AsyncClient, url: httpx.URL, addresses: list[str], headers: Mapping[str, str]
) -> httpx.Response:
    name = url.raw_host.decode("ascii")
    # the address stands in the URL and the name in Host and in TLS: a second look-up could lead elsewhere
    extra = {"sni_hostname": name}
    sent = {"Host": url.netloc.decode("ascii"), **headers}
    for place, address in enumerate(addresses, 1):
        request = client.build_request("GET", url.copy_with(host=address), headers=sent, extensions=extra)
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if place == len(addresses):
                raise
    raise httpx.ConnectError("no address")


async def _addresses(url: httpx.URL, *, proxied: bool) -> list[str]:
    """Where a host is, all of it public or named.

    Raises:
        WireError: 403, it is not; the same where there is no such host, as a name alone tells of a network, too.
    """
    if url.scheme not in _PORTS or not url.host:
        raise WireError(400, "invalid model name: its host is none")
    looking = asyncio.get_running_loop().run_in_executor(_lookups, _resolved, url.host, url.port or _PORTS[url.scheme])
    try:
        addresses = await asyncio.wait_for(looking, LOOKUP_SECONDS)
    except (OSError, UnicodeError, asyncio.TimeoutError):
        addresses = []
    allowed = all(is_public(address) for address in addresses) or _is_named(url)
    if not allowed or not (addresses or proxied):
        raise WireError(
            403,
            f"pull model: no public address is known of {url.host}; check the name and the connection. A registry in a "
            f"private network is named when the server is started: {PRIVATE}={url.netloc.decode('ascii')}",
        )
    return addresses[:_MOST_ADDRESSES]


def _resolved(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet at large, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if wrapped:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast


def _is_named(url: httpx.URL) -> bool:
    """Whether whoever started the server has named this host, and port where it is another than the usual."""
    named = [os.environ.get(REGISTRY, ""), *(f"{url.scheme}://{one.strip()}" for one in _private())]
    for one in filter(None, named):
        try:
            other = httpx.URL(one)
        except httpx.InvalidURL:
            continue
        usual = _PORTS.get(other.scheme), _PORTS.get(url.scheme)
        if (other.host, other.port or usual[0]) == (url.host, url.port or usual[1]):
            return True
    return False


def _private() -> list[str]:
    return [one for one in os.environ.get(PRIVATE, "").split(",") if one.strip()]


def _proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment names for a host."""
    proxy = urllib.request.getproxies().get(url.scheme)
    return None if not proxy or urllib.request.proxy_bypass(url.host) else proxy


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()

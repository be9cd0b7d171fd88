"""Addresses of streams, whose passwords are neither printed nor stored."""

from __future__ import annotations

import re
import socket
from urllib.parse import quote, unquote, urlsplit

from dimpoint.errors import ConfigError

# What FFmpeg may open for an address of each kind. Never `file`: a play list must not read files here.
_NETWORK = "rtp,srtp,udp,tcp,tls,crypto,data"
SCHEMES = {
    "rtsp": f"rtsp,{_NETWORK}",
    "rtsps": f"rtsps,rtsp,{_NETWORK}",
    "http": f"http,https,httpproxy,{_NETWORK}",
    "https": f"https,http,httpproxy,{_NETWORK}",
    "udp": _NETWORK,
    "rtp": _NETWORK,
    "tcp": _NETWORK,
    "srt": f"srt,{_NETWORK}",
    "rtmp": f"rtmp,{_NETWORK}",
}
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HIDDEN = "***"
_SHORTEST_SECRET = 3  # characters; hiding shorter ones everywhere would hide the text


class Address:
    """The address of a stream.

    Parameters
    ----------
    text : str
        The address.
    password : str, optional
        Replaces the address's own; it is percent-encoded here.

    Attributes
    ----------
    url : str
        With its password, for FFmpeg alone.
    shown : str
        What may be printed and stored: user and password, the values of the query and of `key=value` parts of
        the path are replaced by `***`.
    scheme : str
        In lower case.

    Raises
    ------
    ConfigError
        For what is no address, and for a password without a user.
    """

    def __init__(self, text: str, password: str | None = None) -> None:
        found = _ADDRESS.fullmatch(text.strip())
        scheme = found[1].lower() if found else ""
        if found is None or scheme not in SCHEMES:
            raise ConfigError(
                f"{shown(text)}: no address of a stream; one begins with {'://, '.join(SCHEMES)}://"
            )
        self.scheme = scheme
        rest = found[2]
        if password is not None:
            rest = _with_password(rest, password, text)
        self.url = f"{scheme}://{rest}"
        self.shown = shown(self.url)
        self._secrets = _secrets_of(rest)

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def host_is_unknown(self) -> bool:
        """Whether the address names a host that cannot be resolved now; asks the name server."""
        try:
            host = urlsplit(f"//{_split_user(self.url.partition('://')[2])[1]}").hostname
            socket.getaddrinfo(host, None)
        except (OSError, ValueError):  # ValueError: a name that is none, such as one with 64 letters
            return True
        return False

    @property
    def protocols(self) -> str:
        """What FFmpeg may open for this address."""
        return SCHEMES[self.scheme]

    def scrub(self, text: str) -> str:
        """A message of a library without the address's secrets, in whatever form they stand in it."""
        text = text.replace(self.url, self.shown)
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text


def is_address(text: str) -> bool:
    """Whether a source is meant as an address, not as a path."""
    return _ADDRESS.fullmatch(text.strip()) is not None


def shown(text: str) -> str:
    """An address as it may be printed and stored; other texts as they are."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        return text
    user, rest = _split_user(found[2])
    place, mark, query = rest.partition("?")
    place = "/".join(_hide_value(part) for part in place.split("/"))
    query = "&".join(_hide_value(part) for part in re.split(r"[&;]", query))
    return f"{found[1].lower()}://{f'{_HIDDEN}@' if user else ''}{place}{mark}{query}"


def _hide_value(part: str) -> str:
    """`key=value` without the value. What follows the first `=` is hidden as a whole."""
    key, mark, value = part.partition("=")
    return f"{key}{mark}{_HIDDEN}" if mark and value else part


def _split_user(rest: str) -> tuple[str, str]:
    """User and password, and what follows. Passwords are often written with `/`, `?` or `@` unescaped.

    So the part ends at the last `@`, unless what stands before the first `/` or `?` has none and no colon
    that begins a password.
    """
    user, mark, after = rest.rpartition("@")
    if not mark:
        return "", rest
    host = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "@" not in host and not re.search(r":(?!\d+$)", host):
        return "", rest  # the @ belongs to path or query: http://host:80/stream?mail=a@b
    return user, after


def _with_password(rest: str, password: str, text: str) -> str:
    user, after = _split_user(rest)
    name = user.partition(":")[0]
    if not name:
        raise ConfigError(
            f"{shown(text)}: the address names no user for the password, as in rtsp://user@host/"
        )
    return f"{name}:{quote(password, safe='')}@{after}"


def _secrets_of(rest: str) -> list[str]:
    user, after = _split_user(rest)
    words = {user, user.partition(":")[2]}
    words.update(part.partition("=")[2] for part in re.split(r"[/?&;]", after))
    words |= {unquote(word) for word in words}
    return sorted((word for word in words if len(word) >= _SHORTEST_SECRET), key=len, reverse=True)

"""``Destination``: where a benchmark runs, as ``ssh://[user@]host[:port]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.errors import OptionError

# Neither may begin with a dash, which ssh would read as an option, nor hold what a shell could read: ssh puts both
# into the commands of a user's configuration (ProxyCommand, Match exec).
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")
_EXPECTED = "expected ssh://[user@]host[:port], such as ssh://pi@raspberrypi or ssh://pi@[fe80::1%eth0]:2222"


@dataclass(frozen=True)
class Destination:
    """Where to, in the parts that ssh takes.

    Attributes:
        host: a name, an address, or what ``Host`` says in the user's ssh configuration.
        user: the account there; ``None`` for what the configuration says.
        port: the server's port; ``None`` for what the configuration says.
    """

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read ``ssh://[user@]host[:port]``.

        Args:
            text: the address; an IPv6 one stands in brackets.

        Raises:
            OptionError: it is none, or has a path or a password.
        """
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() != "ssh":
            raise OptionError(f"{text!r} is no place to run on: {_EXPECTED}.")
        rest = rest[:-1] if rest.endswith("/") else rest
        if "/" in rest or "?" in rest or "#" in rest:
            raise OptionError(
                f"{text!r} has a path: the folder there is chosen by edgekit (--remote-folder names another); {_EXPECTED}."
            )
        user, at, place = rest.rpartition("@")
        if ":" in user:
            raise OptionError(
                f"{text!r} has a password, which others could read: use a key. {_EXPECTED}.".replace(user, "…")
            )
        if at and not _USER.fullmatch(user):
            raise OptionError(
                f"{user!r} is no user's name that can be passed on: letters, digits and . _ + @ - were expected. "
                "For any other name, put a Host with User into ~/.ssh/config and name that host."
            )
        host, port = _split(place)
        if host is None:
            raise OptionError(f"{text!r} names no host: {_EXPECTED}.")
        if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise OptionError(f"the port of {text!r} is {port!r}: a number from 1 to 65535 was expected.")
        return cls(host, user if at else None, None if port is None else int(port))

    def arguments(self) -> list[str]:
        """What ssh takes, the host last, behind ``--``."""
        return [
            *(() if self.user is None else ("-l", self.user)),
            *(() if self.port is None else ("-p", str(self.port))),
            "--",
            self.host,
        ]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"ssh://{user}{host}{'' if self.port is None else f':{self.port}'}"


def _split(place: str) -> tuple[str | None, str | None]:
    """Host and port; ``None`` for a host that is none."""
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or not _IPV6.fullmatch(host.replace("%25", "%")):
            return None, None
        return host.replace("%25", "%"), rest[1:] if rest else None
    host, colon, port = place.partition(":")
    return (host if _HOST.fullmatch(host) else None), port if colon else None

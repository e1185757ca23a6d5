"""What goes wrong with another machine."""

from __future__ import annotations

from edgekit.errors import EdgekitError


class RemoteError(EdgekitError):
    """Another machine cannot be reached, has not what is needed, or ended what ran there."""


class ConnectionLost(RemoteError):
    """The connection ended before the answer: trying again may help."""

"""Environments of their own: virtual environments in the user's cache folder, for packages that cannot share the user's.

edgekit makes one when it is asked to (``edgekit setup``), never by itself, and never installs anything into the environment
that it runs in itself.
"""

from __future__ import annotations

from edgekit_convert.environments.lock import Lock as Lock
from edgekit_convert.environments.lock import lock_for as lock_for
from edgekit_convert.environments.lock import names as names
from edgekit_convert.environments.making import make as make
from edgekit_convert.environments.making import remove as remove
from edgekit_convert.environments.place import Status as Status
from edgekit_convert.environments.place import require as require
from edgekit_convert.environments.place import status as status

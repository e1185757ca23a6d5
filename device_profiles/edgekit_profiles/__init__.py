"""Device profiles: which device is this, what can it do, and which delegate should run a model there."""

from __future__ import annotations

from edgekit_profiles.detect import Candidate as Candidate
from edgekit_profiles.detect import Detection as Detection
from edgekit_profiles.detect import detect as detect
from edgekit_profiles.loader import list_profiles as list_profiles
from edgekit_profiles.loader import load_profile as load_profile
from edgekit_profiles.profile import DeviceProfile as DeviceProfile
from edgekit_profiles.resolver import Target as Target
from edgekit_profiles.resolver import choose_delegate as choose_delegate
from edgekit_profiles.resolver import choose_for as choose_for
from edgekit_profiles.resolver import fallback_order as fallback_order
from edgekit_profiles.resolver import find_target as find_target

__all__ = [
    "Candidate",
    "Detection",
    "DeviceProfile",
    "Target",
    "choose_delegate",
    "choose_for",
    "detect",
    "fallback_order",
    "find_target",
    "list_profiles",
    "load_profile",
]

"""The networks that ``latency.py`` measures, each made and trained here from a seed in about a minute.

None has raw random weights: activations of such networks shrink layer by layer to nothing, and neither scales nor times nor
outputs would be those of a real one. They learn to tell, find or outline coloured digits on photographs, or to tell words, well enough
to be sure of most of their answers; what they are for is their layers.
"""

from __future__ import annotations

from zoo.items import ZOO as ZOO
from zoo.items import Item as Item
from zoo.training import made as made

__all__ = ["ZOO", "Item", "made"]

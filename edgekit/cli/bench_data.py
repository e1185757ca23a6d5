"""Real data for ``edgekit bench``, in the text form that ``edgekit convert`` and ``edgekit verify`` take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.preprocess import Preprocessing


def read_data(
    text: str,
    models: Sequence[Path],
    batches: Sequence[int | None],
    *,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    crop: str | None,
) -> tuple[list[Any], Preprocessing | None]:
    """Read as many samples as a benchmark keeps.

    Args:
        text: see ``edgekit.convert``.
        models: the files; the first one's inputs say what a sample holds.
        batches: the sizes of batches, ``None`` for single samples.
        normalize: see ``edgekit.convert``, as the next three.
        resize: see there.
        color: see there.
        crop: see there.

    Returns:
        Raw samples as ``edgekit.benchmark`` takes them, and what the options say of preprocessing; ``None`` when they say nothing.

    Raises:
        EdgekitError: a model or the data cannot be read, or an option not be understood.
    """
    from edgekit.bench.inputs import MOST_SAMPLES
    from edgekit.modelfile import ModelFile
    from edgekit.preprocess import from_options
    from edgekit_convert.calibration.data import open_data

    options = from_options(normalize, resize, color, crop)
    inputs = ModelFile.read(models[0]).inputs
    limit = MOST_SAMPLES * max(batch or 1 for batch in batches)
    rows = [row for row, _ in itertools.islice(open_data(text, inputs, limit, "benchmark").read(), limit)]
    alone = len(inputs) == 1  # then other models may call their input otherwise
    samples: list[Any] = [row[inputs[0].name] for row in rows] if alone else list(rows)
    return samples, None if options == from_options(None, None, None, None) and normalize is None else options

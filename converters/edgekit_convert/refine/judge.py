"""How good a candidate is: the noise that int8 adds to the outputs, on calibration data."""

from __future__ import annotations

from itertools import islice

import numpy as np

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.calibration import CalibrationSet

_SAMPLES = 128


def noise_share(float_model: bytes, int8_model: bytes, data: CalibrationSet, spec: DelegateSpec) -> float:
    """Noise energy of an int8 model's outputs relative to the float model's energy, on at most 128 samples.

    Args:
        float_model: the float model.
        int8_model: a candidate.
        data: representative data.
        spec: the delegate that will run it.
    """
    signal = noise = 0.0
    choice = DelegateChoice(spec, "judging a refinement")
    with Session(ModelFile.read(float_model), choice) as exact, Session(ModelFile.read(int8_model), choice) as rounded:
        for ready in islice(data, _SAMPLES):
            a, b = exact.run(ready.inputs), rounded.run(ready.inputs)
            pairs = [(a, b)] if not isinstance(a, dict) else list(zip(a.values(), b.values(), strict=True))
            for x, y in pairs:
                signal += float(np.square(x, dtype=np.float64).sum())
                noise += float(np.square(np.asarray(x, np.float64) - y).sum())
    return noise / signal if signal else noise

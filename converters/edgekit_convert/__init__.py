"""The converter: trained model in, proven int8 ``.tflite`` out. ``edgekit.convert`` is the way in."""

from __future__ import annotations

from edgekit_convert.assign.gates import Gates as Gates
from edgekit_convert.calibration import Audit as Audit
from edgekit_convert.calibration import CalibrationSet as CalibrationSet
from edgekit_convert.calibration import Finding as Finding
from edgekit_convert.conversion import Conversion as Conversion
from edgekit_convert.pipeline import convert as convert
from edgekit_convert.verify import SetFigures as SetFigures
from edgekit_convert.verify import VerifyReport as VerifyReport
from edgekit_convert.verify.pair import verify_pair as verify_pair

__all__ = [
    "Audit",
    "CalibrationSet",
    "Conversion",
    "Finding",
    "Gates",
    "SetFigures",
    "VerifyReport",
    "convert",
    "verify_pair",
]

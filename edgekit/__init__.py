"""Take a trained model, make it int8, prove that it is still right, and run it on a small device.

``edgekit.load`` opens a ``.tflite`` file for running, ``edgekit.convert`` makes one, ``edgekit.inspect`` shows one,
``edgekit.benchmark`` measures one. Importing this package loads numpy and the standard library, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.errors import AlreadyQuantisedError as AlreadyQuantisedError
from edgekit.errors import ConversionError as ConversionError
from edgekit.errors import DataError as DataError
from edgekit.errors import DelegateError as DelegateError
from edgekit.errors import EdgekitError as EdgekitError
from edgekit.errors import EngineError as EngineError
from edgekit.errors import FaultError as FaultError
from edgekit.errors import GateError as GateError
from edgekit.errors import ModelFileError as ModelFileError
from edgekit.errors import OptionError as OptionError
from edgekit.errors import OutputError as OutputError
from edgekit.errors import ProfileError as ProfileError
from edgekit.errors import TensorError as TensorError
from edgekit.version import __version__ as __version__

if TYPE_CHECKING:
    from edgekit.api import convert as convert
    from edgekit.api import delegate_report as delegate_report
    from edgekit.api import load as load
    from edgekit.api import plan as plan
    from edgekit.api import verify as verify
    from edgekit.api import verify_golden as verify_golden
    from edgekit.bench import BenchmarkReport as BenchmarkReport
    from edgekit.bench import benchmark as benchmark
    from edgekit.golden import GoldenReport as GoldenReport
    from edgekit.inspection import inspect as inspect
    from edgekit.manifest import Manifest as Manifest
    from edgekit.modelfile import ModelFile as ModelFile
    from edgekit.postprocess import Label as Label
    from edgekit.preprocess import Preprocessing as Preprocessing
    from edgekit.runtime.delegates import DelegateChoice as DelegateChoice
    from edgekit.runtime.delegates import DelegateSpec as DelegateSpec
    from edgekit.runtime.delegates import PartitionReport as PartitionReport
    from edgekit.runtime.fallback import Fallback as Fallback
    from edgekit.runtime.histogram import Histogram as Histogram
    from edgekit.runtime.isolate import Isolated as Isolated
    from edgekit.runtime.latency import LatencyLog as LatencyLog
    from edgekit.runtime.latency import LogOptions as LogOptions
    from edgekit.runtime.latency import RunRecord as RunRecord
    from edgekit.runtime.logfile import read_log as read_log
    from edgekit.runtime.pool import Pool as Pool
    from edgekit.runtime.session import Fault as Fault
    from edgekit.runtime.session import Session as Session
    from edgekit.runtime.stream import Stream as Stream
    from edgekit.runtime.stream import stream as stream
    from edgekit.runtime.summary import LatencySummary as LatencySummary
    from edgekit.tensors import QuantParams as QuantParams
    from edgekit.tensors import TensorSpec as TensorSpec
    from edgekit_convert import Conversion as Conversion
    from edgekit_convert import VerifyReport as VerifyReport
    from edgekit_profiles import DeviceProfile as DeviceProfile
    from edgekit_profiles.plan import Plan as Plan

#: Where each further name comes from; its module is imported when the name is first used.
_LAZY: dict[str, str] = {
    "BenchmarkReport": "edgekit.bench",
    "Conversion": "edgekit_convert",
    "DelegateChoice": "edgekit.runtime.delegates",
    "DelegateSpec": "edgekit.runtime.delegates",
    "DeviceProfile": "edgekit_profiles",
    "Fallback": "edgekit.runtime.fallback",
    "Fault": "edgekit.runtime.session",
    "GoldenReport": "edgekit.golden",
    "Histogram": "edgekit.runtime.histogram",
    "Isolated": "edgekit.runtime.isolate",
    "Label": "edgekit.postprocess",
    "LatencyLog": "edgekit.runtime.latency",
    "LatencySummary": "edgekit.runtime.summary",
    "LogOptions": "edgekit.runtime.latency",
    "Manifest": "edgekit.manifest",
    "ModelFile": "edgekit.modelfile",
    "PartitionReport": "edgekit.runtime.delegates",
    "Plan": "edgekit_profiles.plan",
    "Pool": "edgekit.runtime.pool",
    "Preprocessing": "edgekit.preprocess",
    "QuantParams": "edgekit.tensors",
    "RunRecord": "edgekit.runtime.latency",
    "Session": "edgekit.runtime.session",
    "Stream": "edgekit.runtime.stream",
    "TensorSpec": "edgekit.tensors",
    "VerifyReport": "edgekit_convert",
    "benchmark": "edgekit.bench",
    "convert": "edgekit.api",
    "delegate_report": "edgekit.api",
    "inspect": "edgekit.inspection",
    "load": "edgekit.api",
    "plan": "edgekit.api",
    "read_log": "edgekit.runtime.logfile",
    "stream": "edgekit.runtime.stream",
    "verify": "edgekit.api",
    "verify_golden": "edgekit.api",
}

__all__ = [
    "AlreadyQuantisedError",
    "BenchmarkReport",
    "Conversion",
    "ConversionError",
    "DataError",
    "DelegateChoice",
    "DelegateError",
    "DelegateSpec",
    "DeviceProfile",
    "EdgekitError",
    "EngineError",
    "Fallback",
    "Fault",
    "FaultError",
    "GateError",
    "GoldenReport",
    "Histogram",
    "Isolated",
    "Label",
    "LatencyLog",
    "LatencySummary",
    "LogOptions",
    "Manifest",
    "ModelFile",
    "ModelFileError",
    "OptionError",
    "OutputError",
    "PartitionReport",
    "Plan",
    "Pool",
    "Preprocessing",
    "ProfileError",
    "QuantParams",
    "RunRecord",
    "Session",
    "Stream",
    "TensorError",
    "TensorSpec",
    "VerifyReport",
    "__version__",
    "benchmark",
    "convert",
    "delegate_report",
    "inspect",
    "load",
    "plan",
    "read_log",
    "stream",
    "verify",
    "verify_golden",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The Edge TPU before the device: which operators its compiler would map, and the compiler itself where it is installed."""

from __future__ import annotations

from edgekit_convert.edgetpu.attach import attached as attached
from edgekit_convert.edgetpu.checking import check as check
from edgekit_convert.edgetpu.compiled import mapped_in as mapped_in
from edgekit_convert.edgetpu.compiler import compile_model as compile_model
from edgekit_convert.edgetpu.report import EdgetpuOp as EdgetpuOp
from edgekit_convert.edgetpu.report import EdgetpuReport as EdgetpuReport

__all__ = ["EdgetpuOp", "EdgetpuReport", "attached", "check", "compile_model", "mapped_in"]

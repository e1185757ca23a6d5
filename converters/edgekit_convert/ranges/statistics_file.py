"""Measured statistics as a file, so that a later conversion need not measure again, and several machines can share the work.

The file is numpy's ``.npz``, without pickled objects. ``header`` is JSON in UTF-8: schema, tensor names, counts, and what was
measured on which data. The arrays are ``extremes`` (float64, ``[tensors, 2]``), the histograms of all tensors one behind the
other (``bins``, int16, and ``counts``, int64, with ``lengths`` saying how many belong to each tensor), and ``sum_0``,
``sum_1``, … (float64) for the tensors that the header lists under ``summed``.
"""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, from_os_error
from edgekit.files import write_whole
from edgekit.tensors import Array
from edgekit_convert.ranges import Statistics
from edgekit_convert.ranges import merge as merge_statistics
from edgekit_convert.ranges.histogram import MAGNITUDES, Histogram

SCHEMA = 1
_KIND = "edgekit statistics"
#: What numpy, zipfile and json raise on a file that is not what it should be; numpy reads an array's header as Python.
_DAMAGE = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, OSError, RuntimeError, OverflowError, MemoryError,
    SyntaxError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


@dataclass(frozen=True)
class SavedStatistics:
    """Statistics, and what they were measured on.

    Attributes:
        statistics: what was measured.
        fingerprints: of the representative data; more than one where files were merged.
        model_sha256: of the float model that was run.
        origin: the file, for messages.
    """

    statistics: Statistics
    fingerprints: tuple[str, ...]
    model_sha256: str
    origin: str

    def difference(self, *, fingerprint: str, model_sha256: str) -> str | None:
        """What keeps these statistics from being used; ``None`` where they fit.

        Merged statistics fit each of the data sets that they were measured on.

        Args:
            fingerprint: of the representative data at hand.
            model_sha256: of the float model at hand.
        """
        if self.model_sha256 != model_sha256:
            return (
                f"{self.origin} was measured on another model: float sha256 {self.model_sha256[:12]}…, this one has "
                f"{model_sha256[:12]}…. Models differ when their source, edgekit's version or an option that rewrites the graph does."
            )
        if fingerprint not in self.fingerprints:
            known = ", ".join(f"{item[:12]}…" for item in self.fingerprints)
            return (
                f"{self.origin} was measured on other data: fingerprint {known}, this data has {fingerprint[:12]}…. "
                "Data differ when a sample, --samples or the preprocessing does; the order does not matter."
            )
        return None

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a file, whole or not at all; the same statistics always give the same bytes.

        Args:
            path: where to; usually ``….npz``.
            overwrite: whether an existing file may be replaced.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        found = self.statistics
        names, summed = sorted(found.extremes), sorted(found.sums)
        histograms = [found.histograms[name] for name in names]
        header = {
            "kind": _KIND,
            "schema": SCHEMA,
            "count": found.count,
            "summed_count": found.summed,
            "fingerprints": list(self.fingerprints),
            "model_sha256": self.model_sha256,
            "tensors": names,
            "summed": summed,
        }
        arrays: dict[str, Array] = {
            "header": np.frombuffer(json.dumps(header, ensure_ascii=False).encode(), np.uint8),
            "extremes": np.array([found.extremes[name] for name in names], np.float64).reshape(-1, 2),
            "lengths": np.array([len(item.bins) for item in histograms], np.int64),
            "bins": np.concatenate([np.zeros(0, np.int16), *(item.bins for item in histograms)]),
            "counts": np.concatenate([np.zeros(0, np.int64), *(item.counts for item in histograms)]),
        }
        arrays |= {f"sum_{number}": found.sums[name] for number, name in enumerate(summed)}
        packed = io.BytesIO()
        np.savez(packed, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own arguments
        write_whole(Path(path), packed.getvalue(), overwrite=overwrite)


def save(
    path: str | Path, statistics: Statistics, *, fingerprint: str, model_sha256: str, overwrite: bool = False
) -> None:
    """Write statistics to a file.

    Args:
        path: where to.
        statistics: what was measured.
        fingerprint: of the representative data.
        model_sha256: of the float model that was run.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    SavedStatistics(statistics, (fingerprint,), model_sha256, str(path)).save(path, overwrite=overwrite)


def load(path: str | Path, *, fingerprint: str, model_sha256: str) -> Statistics:
    """Read statistics that must fit.

    Args:
        path: the file.
        fingerprint: of the representative data at hand.
        model_sha256: of the float model at hand.

    Raises:
        DataError: it cannot be read, is damaged, or was measured on another model or other data.
    """
    saved = read(path)
    difference = saved.difference(fingerprint=fingerprint, model_sha256=model_sha256)
    if difference is not None:
        raise DataError(f"{difference} Give another file name to measure anew.")
    return saved.statistics


def merge(saved: Sequence[SavedStatistics]) -> SavedStatistics:
    """Unite statistics of one model that were measured on several parts of the data.

    Args:
        saved: at least one.

    Raises:
        DataError: they are of different models, or some data would count twice.
    """
    if not saved:
        raise DataError("no statistics to merge: at least one file was expected.")
    first = saved[0]
    fingerprints: dict[str, str] = {}
    for item in saved:
        if item.model_sha256 != first.model_sha256:
            raise DataError(
                f"{first.origin} and {item.origin} were measured on different models (float sha256 "
                f"{first.model_sha256[:12]}… and {item.model_sha256[:12]}…): statistics of one model can be merged."
            )
        for fingerprint in item.fingerprints:
            if fingerprint in fingerprints:
                raise DataError(
                    f"{fingerprints[fingerprint]} and {item.origin} hold statistics of the same data (fingerprint "
                    f"{fingerprint[:12]}…), which would count twice: leave one of them out."
                )
            fingerprints[fingerprint] = item.origin
    return SavedStatistics(
        merge_statistics(item.statistics for item in saved),
        tuple(sorted(fingerprints)),
        first.model_sha256,
        " + ".join(item.origin for item in saved),
    )


def read(path: str | Path) -> SavedStatistics:
    """Read and check a file.

    Args:
        path: what ``save`` wrote.

    Raises:
        DataError: it cannot be read, is damaged, is something else, or a newer edgekit wrote it.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            if header["kind"] == _KIND and int(header["schema"]) > SCHEMA:
                raise DataError(
                    f"{path} was written by a newer edgekit (schema {header['schema']}, this one reads up to {SCHEMA}): "
                    "update edgekit, or measure again."
                )
            return _checked(header, archive, str(path))
    except _DAMAGE as error:
        raise DataError(
            f"{path} is damaged or does not hold edgekit's statistics ({type(error).__name__}: {error}). "
            "Delete it or give another file name, and they are measured again."
        ) from error


def _checked(header: dict[str, Any], archive: Any, origin: str) -> SavedStatistics:
    """Read the arrays and hold each to what the header says; raises what ``_DAMAGE`` lists."""
    _require(header["kind"] == _KIND, "it is of another kind")
    names, summed = _texts(header["tensors"]), _texts(header["summed"])
    count, summed_count = int(header["count"]), int(header["summed_count"])
    _require(count > 0 and 0 <= summed_count <= count, f"{summed_count} of {count} samples are summed")
    extremes, lengths = archive["extremes"], archive["lengths"]
    bins, counts = archive["bins"], archive["counts"]
    _require(extremes.dtype == np.float64 and extremes.shape == (len(names), 2), "extremes of another form")
    _require(lengths.dtype == np.int64 and lengths.shape == (len(names),), "lengths of another form")
    _require(bins.dtype == np.int16 and counts.dtype == np.int64 and bins.ndim == 1, "histograms of another form")
    whole = bool((lengths >= 0).all()) and bins.shape == counts.shape == (int(lengths.sum()),)
    _require(whole, "histograms of another length")
    histograms: dict[str, Histogram] = {}
    ends = np.cumsum(lengths)
    for (low, high), name, end, length in zip(extremes.tolist(), names, ends, lengths, strict=True):
        own, own_counts = bins[end - length : end], counts[end - length : end]
        histograms[name] = Histogram(low, high, own, own_counts)
        ordered = bool((np.diff(own.astype(np.int64)) > 0).all() and (own_counts > 0).all())
        inside = bool(((own >= -MAGNITUDES) & (own < MAGNITUDES)).all())
        empty = (low, high) == (np.inf, -np.inf) and length == 0
        _require(ordered and inside, f"the histogram of {name!r}")
        _require(empty or bool(np.isfinite([low, high]).all() and low <= high), f"the extremes of {name!r}")
    sums: dict[str, Array] = {}
    for number, name in enumerate(summed):
        sums[name] = total = archive[f"sum_{number}"]
        _require(total.dtype == np.float64 and bool(np.isfinite(total).all()), f"the sum of {name!r}")
        _require(name in histograms and summed_count > 0, f"a sum of {name!r} without samples")
    statistics = Statistics(
        count, summed_count, {name: (item.low, item.high) for name, item in histograms.items()}, histograms, sums
    )
    fingerprints = _texts(header["fingerprints"])
    _require(bool(fingerprints) and isinstance(header["model_sha256"], str), "no fingerprint")
    return SavedStatistics(statistics, fingerprints, header["model_sha256"], origin)


def _texts(value: Any) -> tuple[str, ...]:
    _require(isinstance(value, list) and all(isinstance(item, str) for item in value), "a list of another form")
    _require(len(set(value)) == len(value), "a name twice")
    return tuple(value)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)

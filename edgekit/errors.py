"""Every error that edgekit raises on purpose, and where foreign errors become ours.

The tree::

    EdgekitError                 exit code 2 unless said otherwise
    ├── ModelFileError           the file is missing, damaged or not a model
    │   └── AlreadyQuantisedError   the source of a conversion is not a float model
    ├── DataError                calibration, verification or input data
    ├── TensorError              one input's name, shape, dtype or values
    ├── OutputError              the result cannot be written, or would overwrite
    ├── OptionError              an argument's value is not one that exists
    ├── EngineError              no interpreter, or the interpreter refused
    │   └── FaultError              the process of an isolated model crashed, hung or left its limits
    ├── DelegateError            a delegate is unknown, missing or fell short of what was required
    ├── ProfileError             an unknown or invalid device profile
    ├── ConversionError          the model cannot be converted
    └── GateError                exit code 1: it ran, and the result is not good enough

Each message says what was seen, what was expected and what to do. An exception that is not an
``EdgekitError`` is a bug in edgekit.
"""

from __future__ import annotations

import errno
import os


class EdgekitError(Exception):
    """Base of all errors that edgekit raises on purpose.

    Attributes:
        exit_code: what the command line exits with; 2 is wrong usage or unreadable input,
            1 a gate or a case that failed.
    """

    exit_code: int = 2


class ModelFileError(EdgekitError):
    """A model file is missing, damaged, or not a TFLite model."""


class AlreadyQuantisedError(ModelFileError):
    """A conversion was given a model that is quantised already."""


class DataError(EdgekitError):
    """Calibration, verification or input data cannot be used."""


class TensorError(EdgekitError):
    """An input's name, shape, dtype or values do not fit the model."""


class OutputError(EdgekitError):
    """A result cannot be written, or would overwrite an existing file."""


class OptionError(EdgekitError):
    """An argument's value is not one that exists."""


class EngineError(EdgekitError):
    """No interpreter is installed, or the interpreter refused the model."""


class FaultError(EngineError):
    """The process that a model was isolated in crashed, hung or went over its limits.

    Attributes:
        signal: the name of the signal that ended the process, such as ``"SIGSEGV"``; ``None`` when none did.
        timed_out: whether the time limit ended it.
    """

    def __init__(self, message: str, *, signal: str | None = None, timed_out: bool = False) -> None:
        super().__init__(message)
        self.signal = signal
        self.timed_out = timed_out


class DelegateError(EdgekitError):
    """A delegate is unknown, missing, or took less than was required."""


class ProfileError(EdgekitError):
    """A device profile is unknown or invalid."""


class ConversionError(EdgekitError):
    """The model cannot be converted."""


class GateError(EdgekitError):
    """The conversion ran, and its result does not pass a gate."""

    exit_code = 1


def from_os_error(
    error: OSError, path: str | os.PathLike[str], doing: str, kind: type[EdgekitError] | None = None
) -> EdgekitError:
    """Translate an operating system error into the edgekit error that names the remedy.

    Args:
        error: what the operating system said.
        path: the file or folder it was about.
        doing: ``"read"`` or ``"write"``.
        kind: the error to make; ``None`` for an ``OutputError`` when writing and a ``ModelFileError`` when reading.

    Returns:
        The error, which the caller raises ``from`` the original.
    """
    kind = kind or (OutputError if doing == "write" else ModelFileError)
    if error.errno == errno.ENOSPC:
        return kind(f"cannot {doing} {path}: the disk is full. Free some space, or choose another folder.")
    if error.errno == errno.EDQUOT:
        return kind(f"cannot {doing} {path}: the disk quota is used up. Free some space, or choose another folder.")
    if isinstance(error, FileNotFoundError):
        if doing == "write":
            return kind(
                f"cannot write {path}: the folder {os.path.dirname(os.fspath(path)) or '.'} does not exist. Create it first."
            )
        return kind(f"no such file: {path}. Check the spelling and the folder that you are in.")
    if isinstance(error, NotADirectoryError):
        return kind(f"cannot {doing} {path}: a part of that path is a file, not a folder.")
    if isinstance(error, IsADirectoryError):
        return kind(f"cannot {doing} {path}: it is a folder, a file was expected.")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return kind(f"cannot {doing} {path}: permission denied. Check the owner and mode of the file and its folder.")
    return kind(f"cannot {doing} {path}: {error.strerror or error}.")


def one_of(value: str, allowed: tuple[str, ...] | list[str], what: str) -> str:
    """Return ``value`` when it is allowed, else raise an ``OptionError`` that lists what is.

    Args:
        value: what the caller gave.
        allowed: the values that exist.
        what: the option's name, for the message.

    Raises:
        OptionError: ``value`` is not in ``allowed``.
    """
    if value in allowed:
        return value
    raise OptionError(f"unknown {what} {value!r}: expected one of {', '.join(allowed)}.")

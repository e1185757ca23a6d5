"""What is asked of a conversion, in groups that belong together; ``edgekit.convert`` documents each option."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import OptionError, one_of
from edgekit.files import check_writable
from edgekit.preprocess import Preprocessing, from_options
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit_convert.assign.gates import Gates
from edgekit_convert.quantize import io_for
from edgekit_convert.refine.steps import EFFORTS
from edgekit_convert.verify import runnable_here

#: Called as ``progress(step, done, total)``.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What the model is quantised to, and how hard its constants are refined.

    Attributes:
        name: which types.
        effort: how much is tried for better constants.
        io: the type of the file's inputs and outputs.
        delegate_rules: whether the graph may be respelled for the delegate.
    """

    name: str
    effort: str
    io: str
    delegate_rules: bool

    @classmethod
    def from_options(cls, name: str, effort: str, io: str | None, *, delegate_rules: bool) -> Recipe:
        """Read the options.

        Args:
            name: see ``Recipe``, as the next.
            effort: see ``Recipe``.
            io: ``None`` for the recipe's own.
            delegate_rules: see ``Recipe``.

        Raises:
            OptionError: a name is unknown, or recipe and ``io`` do not go together.
        """
        io = io_for(name, io)
        return cls(name, one_of(effort, EFFORTS, "effort"), io, delegate_rules)

    @property
    def measures_times(self) -> bool:
        """Whether something is decided, or said, by measured times."""
        return self.name in ("auto", "int8")


@dataclass(frozen=True)
class Reading:
    """How data become what the model was trained on.

    Attributes:
        normalize: mean and deviation, or ``"none"`` where raw values are right.
        resize: width and height, or the shorter side.
        color: the order of training.
        crop: width and height that are cut out of the centre.
        preprocessing: by input name, instead of the four above.
        samples: at most so many of each data set.
    """

    normalize: Sequence[float] | str | None
    resize: tuple[int, int] | int | str | None
    color: str | None
    crop: tuple[int, int] | str | None
    preprocessing: Mapping[str, Preprocessing] | None
    samples: int

    @property
    def said_raw(self) -> bool:
        """Whether the caller said that raw values are right."""
        return self.normalize == "none"

    def for_one_input(self) -> Preprocessing:
        """What the first four options say.

        Raises:
            OptionError: they make no sense, or were given beside ``preprocessing``.
        """
        options = from_options(self.normalize, self.resize, self.color, self.crop)
        if self.preprocessing is not None and options != Preprocessing():
            raise OptionError(
                "both preprocessing and one of normalize, resize, color, crop were given: use one of the two ways."
            )
        return options


@dataclass(frozen=True)
class Target:
    """What the file is to run on.

    Attributes:
        choice: its delegate.
        elsewhere: its name where it is not this machine.
        runtime_python: a Python that has its runtime; ``None`` for this process.
        edgetpu: whether it is an Edge TPU, for which the file is compiled.
    """

    choice: DelegateChoice
    elsewhere: str | None
    runtime_python: str | None
    edgetpu: bool = False

    @property
    def spec(self) -> DelegateSpec:
        """The delegate that stands for its own here."""
        return runnable_here(self.choice)

    @property
    def has_xnnpack(self) -> bool:
        """Whether XNNPACK is its delegate: for that one operators are placed and respelled."""
        return self.choice.spec.kind == "xnnpack" and not self.edgetpu


@dataclass(frozen=True)
class Demands:
    """What the file has to hold to.

    Attributes:
        metric: the task's figure, see ``verify.figures``.
        gates: what is asked of its figures.
        allow_custom: custom operators that may be in it.
        keep_failing: whether it is returned even if a check fails.
    """

    metric: Any
    gates: Gates
    allow_custom: tuple[str, ...]
    keep_failing: bool


@dataclass(frozen=True)
class Files:
    """The files that a conversion reads and writes besides the model and the data.

    Attributes:
        output: where the model goes; ``None`` for nowhere.
        overwrite: whether it may replace a file.
        cost_table: measured times, read where it exists, and written.
        statistics: activation statistics, read where it exists, else written.
    """

    output: Path | None
    overwrite: bool
    cost_table: Path | None
    statistics: Path | None

    def check(self) -> None:
        """See that the results can be written, before the work starts.

        Raises:
            OutputError: one exists, or cannot be written.
        """
        if self.output is not None:
            check_writable(self.output, overwrite=self.overwrite)
        if self.statistics is not None and not self.statistics.exists():
            check_writable(self.statistics, overwrite=False)

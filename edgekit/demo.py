"""The whole path on real data in under a minute: train, convert, prove, plan, run, benchmark, report.

The data are scikit-learn's 1797 handwritten digits of 8×8 pixels (the test part of the UCI set "Optical Recognition of
Handwritten Digits"), which come inside that package. They are enlarged to 64×64, a size at which a small
convolutional network does enough arithmetic for int8 to pay.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, GateError, OutputError, from_os_error
from edgekit.preprocess import Preprocessing
from edgekit.report.units import milliseconds, share_text, size_text, times
from edgekit.tensors import Array

if TYPE_CHECKING:
    from edgekit.bench import BenchmarkReport, Ratio
    from edgekit_convert import Conversion
    from edgekit_convert.verify.intervals import Interval

Progress = Callable[[str, int, int], None]

#: What the demo leaves in its folder.
FILES: tuple[str, ...] = ("float.tflite", "int8.tflite", "latency.jsonl", "benchmark.json", "report.html")
SEED = 7
TRAIN, CALIBRATION = 1200, 200  # the other 397 digits are for testing
#: What turns a raw digit (8×8, 0 to 16) into the network's input; it travels in the model file.
PREPROCESSING = Preprocessing(resize=(64, 64), mean=(0.0,), std=(16.0,))
EPOCHS = 5
BATCH = 64
CHANNELS = 48
_PACKAGES = {"tensorflow": "tensorflow", "litert-quantizer": "litert_quantizer", "scikit-learn": "sklearn"}


@dataclass(frozen=True)
class Digits:
    """The data, in three parts that share no image.

    Attributes:
        train: images ``[n, 8, 8, 1]``, values 0 to 16, and their digits.
        calibration: images for the activation ranges.
        test: images and digits that neither training nor calibration saw.
    """

    train: tuple[Array, Array]
    calibration: Array
    test: tuple[Array, Array]


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        folder: where the files are.
        test_count: test images.
        float_accuracy: share of test images that the float model reads right.
        int8_accuracy: likewise for the int8 model.
        agreement: share of test images on which both say the same.
        float_bytes: size of float.tflite.
        int8_bytes: size of int8.tflite, its manifest included.
        float_p50_ns: median time of a run of the float model, one thread; at full pace where something often slowed the processor.
        int8_p50_ns: likewise for the int8 model.
        latency: the int8 model's median over the float model's, with its interval.
        seconds: how long each part took.
    """

    folder: Path
    test_count: int
    float_accuracy: Interval
    int8_accuracy: Interval
    agreement: Interval
    float_bytes: int
    int8_bytes: int
    float_p50_ns: int
    int8_p50_ns: int
    latency: Ratio
    seconds: dict[str, float]

    @property
    def size_ratio(self) -> float:
        """How many times smaller the int8 file is."""
        return self.float_bytes / self.int8_bytes

    @property
    def latency_ratio(self) -> float:
        """How many times faster the int8 model is."""
        return 1 / self.latency.value

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "folder": str(self.folder),
            "files": list(FILES),
            "test_count": self.test_count,
            "float_accuracy": self.float_accuracy.to_json(),
            "int8_accuracy": self.int8_accuracy.to_json(),
            "agreement": self.agreement.to_json(),
            "float_bytes": self.float_bytes,
            "int8_bytes": self.int8_bytes,
            "size_ratio": self.size_ratio,
            "float_p50_ns": self.float_p50_ns,
            "int8_p50_ns": self.int8_p50_ns,
            "latency_ratio": self.latency_ratio,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }

    def rows(self) -> list[tuple[str, str]]:
        """The figures for people: a name and a text each."""
        low, high = self.latency.low, self.latency.high
        spread = f" ({1 / high:.2f}–{1 / low:.2f})" if low is not None and high is not None else ""
        return [
            ("float accuracy", f"{share_text(*_ends(self.float_accuracy))} on {self.test_count} test digits"),
            ("int8 accuracy", f"{share_text(*_ends(self.int8_accuracy))} on the same"),
            ("agreement", f"{share_text(*_ends(self.agreement))} of the digits read the same by both"),
            (
                "size ratio",
                f"{times(self.size_ratio)} smaller, {size_text(self.float_bytes)} → {size_text(self.int8_bytes)}",
            ),
            (
                "latency ratio",
                f"{times(self.latency_ratio)}{spread} faster, {milliseconds(self.float_p50_ns)} → "
                f"{milliseconds(self.int8_p50_ns)} median on one thread",
            ),
        ]


def run_demo(
    output: str | os.PathLike[str] = "edgekit-demo", *, overwrite: bool = False, progress: Progress | None = None
) -> DemoResult:
    """Train, convert, prove, plan, run, benchmark and report.

    Args:
        output: the folder for ``FILES``; made here.
        overwrite: replace these files when the folder exists; others in it are left alone.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The figures.

    Raises:
        OutputError: the folder exists or cannot be made.
        EdgekitError: a package is missing, or a step failed; no file is left then.
    """
    tell: Progress = progress or (lambda step, done, total: None)
    output = Path(output)
    with _workplace(output, overwrite) as place:
        from edgekit.api import choose, convert, load
        from edgekit.bench import benchmark
        from edgekit.files import write_whole
        from edgekit.host import read_host
        from edgekit.report.demo_page import demo_page

        clock = _Clock()
        tell("Importing TensorFlow", 0, 0)
        _import_packages()
        digits = load_digits()
        network = build_network()
        clock.lap("import")
        train(network, digits, tell)
        clock.lap("train")
        conversion = convert(
            network,
            digits.calibration,
            output=place / "int8.tflite",
            preprocessing={network.inputs[0].name: PREPROCESSING},
            labels=[str(digit) for digit in range(10)],
            verify=digits.test,
            progress=tell,
        )
        write_whole(place / "float.tflite", conversion.float_model, overwrite=False)
        clock.lap("convert and prove")
        plan = choose(conversion.model)
        tell("Running the test digits", 0, 0)
        with load(place / "int8.tflite", preprocess=True, log=place / "latency.jsonl") as model:
            scores = np.stack([model.run(image)[0] for image in digits.test[0]])
            in_app = model.latency.summary().p50_ns
        clock.lap("run")
        models = {"float": place / "float.tflite", "int8": place / "int8.tflite"}
        report = benchmark(models, runs=100, launches=8, threads=1, progress=tell)
        clock.lap("benchmark")
        result = _result(output, conversion, report, models, clock.seconds)
        report.save(place / "benchmark.json")
        page = demo_page(result, conversion, report, plan, read_host(), digits.test, scores, in_app)
        write_whole(place / "report.html", page.encode(), overwrite=False)
    return result


class _Clock:
    """Laps of wall time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note what went by since the last lap."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _import_packages() -> None:
    """Import what training needs, so that whatever is missing is told at once and with its remedy."""
    remedy = "`pip install 'edgekit[demo]'`"
    missing = [name for name, module in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise EdgekitError(f"the demo needs {', '.join(missing)}: {remedy}.")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
    try:
        import keras
        import sklearn.datasets  # noqa: F401  # used by load_digits
    except ImportError as error:
        raise EdgekitError(f"a package of the demo cannot be imported ({error}): {remedy}.") from error
    if keras.backend.backend() != "tensorflow":
        raise EdgekitError(
            f"Keras was imported before and runs on {keras.backend.backend()}, the demo needs TensorFlow: start it in a "
            "process of its own, as `edgekit demo` does."
        )


@contextlib.contextmanager
def _workplace(output: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder inside ``output``, whose ``FILES`` move up when the block ends well.

    When it does not, ``output`` is as it was.
    """
    existed = output.exists()
    if existed and not output.is_dir():
        raise OutputError(f"cannot write into {output}: it is a file, a folder was expected.")
    if existed and not overwrite:
        raise OutputError(
            f"{output} exists already. Choose another folder, or pass --overwrite to replace the demo's files in it."
        )
    try:
        output.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output))
    except OSError as error:
        raise from_os_error(error, output, "write") from error
    try:
        yield place
        _move(place, output)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # not empty: all went well
                output.rmdir()


def _move(place: Path, output: Path) -> None:
    try:
        for name in FILES:
            (place / name).replace(output / name)
    except OSError as error:
        raise from_os_error(error, output, "write") from error


def load_digits() -> Digits:
    """The digits, shuffled with a fixed seed and split."""
    from sklearn import datasets

    found = datasets.load_digits()
    order = np.random.default_rng(SEED).permutation(len(found.target))
    images, labels = found.images.astype(np.float32)[order][..., None], found.target.astype(np.int64)[order]
    calibrated = TRAIN + CALIBRATION
    return Digits(
        train=(images[:TRAIN], labels[:TRAIN]),
        calibration=images[TRAIN:calibrated],
        test=(images[calibrated:], labels[calibrated:]),
    )


def build_network() -> Any:
    """An untrained Keras model: 64×64 grey image in, ten probabilities out; 13.6 million multiply-accumulates."""
    import keras

    keras.utils.set_random_seed(SEED)
    layers = keras.layers

    def block(value: Any, channels: int, size: int, stride: int) -> Any:
        value = layers.Conv2D(
            channels, size, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(value)
        # A short memory, because training is short: the averages must have settled when it ends.
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(value))

    image = keras.Input((64, 64, 1), name="image")
    value = block(image, CHANNELS, 5, 4)
    value = block(value, 2 * CHANNELS, 3, 2)
    value = block(value, 2 * CHANNELS, 3, 1)
    value = block(value, 2 * CHANNELS, 3, 1)
    value = layers.Dense(10)(layers.GlobalAveragePooling2D()(value))
    return keras.Model(image, layers.Softmax(name="probabilities")(value), name="digits")


def train(network: Any, digits: Digits, tell: Progress) -> None:
    """Train the network in place.

    Args:
        network: from ``build_network``.
        digits: the training part is used.
        tell: called as ``tell(step, done, total)``.
    """
    import keras

    steps = EPOCHS * -(-TRAIN // BATCH)

    class Tell(keras.callbacks.Callback):  # type: ignore[misc]  # Keras carries no types
        """Reports each step."""

        done = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """One more step is done."""
            self.done += 1
            tell("Training", self.done, steps)

    tell("Training", 0, steps)
    network.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps)),
        loss="sparse_categorical_crossentropy",
        jit_compile=False,  # compiling takes longer than this training
    )
    network.fit(
        PREPROCESSING.apply(digits.train[0]),
        digits.train[1],
        epochs=EPOCHS,
        batch_size=BATCH,
        verbose=0,
        callbacks=[Tell()],
    )


def _result(
    output: Path, conversion: Conversion, report: BenchmarkReport, models: dict[str, Path], seconds: dict[str, float]
) -> DemoResult:
    failed = [f"{result.case.model}: {result.error}" for result in report.cases if result.error is not None]
    if failed:
        raise GateError(f"the benchmark of the demo failed: {'; '.join(failed)}")
    test = conversion.report.on["verify"]
    exact, rounded = report.cases
    # The test digits have labels and the outputs are class scores, so these are there.
    assert test.metric is not None
    assert test.agreement is not None
    assert rounded.ratio is not None
    assert exact.typical_ns is not None
    assert rounded.typical_ns is not None
    return DemoResult(
        folder=output,
        test_count=test.count,
        float_accuracy=test.metric.float_model,
        int8_accuracy=test.metric.int8_model,
        agreement=test.agreement,
        float_bytes=models["float"].stat().st_size,
        int8_bytes=models["int8"].stat().st_size,
        float_p50_ns=round(exact.typical_ns),
        int8_p50_ns=round(rounded.typical_ns),
        latency=rounded.ratio,
        seconds=seconds,
    )


def _ends(figure: Interval) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high

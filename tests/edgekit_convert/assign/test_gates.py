"""Gates: how they are asked for, when they can be decided, and what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spoiled
import tiny_models as models

from edgekit.errors import DataError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit_convert.assign.gates import Gates, Prover, in_words
from edgekit_convert.quantize import int8_operators
from edgekit_convert.verify import Metric, OutputFigures, SetFigures, verify
from edgekit_convert.verify.intervals import Interval

FLOAT = spoiled.float_model()
INT8, RANGES = spoiled.quantised(FLOAT)
SPEC = DelegateSpec("none", 1)


def point(value: float) -> Interval:
    """An interval of no width."""
    return Interval(value, value, value)


def seen(
    agreement: float | None = 0.985, sqnr: float = 20.0, drop: float | None = None, name: str = "accuracy"
) -> SetFigures:
    """Figures of a model with one output."""
    output = OutputFigures("y", point(sqnr), None if agreement is None else point(agreement), 0.1)
    metric = None if drop is None else Metric(name, point(0.9), point(0.9 - drop), point(drop))
    return SetFigures("data.npz", 200, (output,), metric)


class TestFromOptions:
    """What a user may write."""

    @pytest.mark.parametrize(("given", "share"), [(0.99, 0.99), (99, 0.99), (1, 1.0), (100, 1.0), (1.5, 0.015)])
    def test_share_or_percent(self, given: float, share: float) -> None:
        """Up to 1 is a share, above 1 is per cent."""
        assert share == pytest.approx(Gates.from_options(min_agreement=given).min_agreement)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"min_agreement": 0.0}, "least agreement of 0"),
            ({"min_agreement": 101.0}, "least agreement of 101"),
            ({"min_agreement": float("nan")}, "least agreement of nan"),
            ({"max_drop": -1.0}, "largest drop of -1"),
            ({"max_drop": float("inf")}, "largest drop of inf"),
            ({"min_sqnr": float("nan")}, "least SQNR of nan"),
        ],
    )
    def test_values_that_make_no_sense(self, options: dict[str, float], text: str) -> None:
        """Each is refused with what was expected."""
        with pytest.raises(OptionError, match=text):
            Gates.from_options(**options)

    def test_nothing_asked(self) -> None:
        """Without options there are no gates."""
        assert not Gates().any
        assert Gates(min_sqnr=0.0).any


class TestCheck:
    """One check for each gate."""

    @pytest.mark.parametrize(
        ("gates", "figures", "passed"),
        [
            (Gates(min_agreement=0.985), seen(0.985), True),
            (Gates(min_agreement=0.99), seen(0.985), False),
            (Gates(min_agreement=0.5), seen(None), False),
            (Gates(min_sqnr=20), seen(sqnr=20.0), True),
            (Gates(min_sqnr=20.1), seen(sqnr=20.0), False),
            (Gates(min_sqnr=20.1), seen(sqnr=float("inf")), True),
            (Gates(min_sqnr=-5), seen(sqnr=float("nan")), False),
            (Gates(max_drop=1), seen(drop=0.01), True),
            (Gates(max_drop=1), seen(drop=0.011), False),
            (Gates(max_drop=0), seen(drop=-0.2), True),
            (Gates(max_drop=0.1), seen(drop=0.011, name="iou"), True),
            (Gates(max_drop=0.01), seen(drop=0.011, name="iou"), False),
            (Gates(max_drop=1), seen(), False),
        ],
    )
    def test_each_gate(self, gates: Gates, figures: SetFigures, passed: bool) -> None:
        """Accuracy drops in points, another figure in its own unit; what was not measured does not pass."""
        [check] = gates.check(figures, "verification data")
        assert passed == check.passed == gates.met(figures)

    def test_text(self) -> None:
        """What was seen, what was asked, and on what."""
        checks = Gates(0.99, 1, 21).check(seen(drop=0.02), "held-out calibration data")
        assert ["least agreement", "largest drop", "least SQNR"] == [check.name for check in checks]
        assert (
            "98.50 % (98.5 to 98.5); asked for at least 99 % (200 samples of held-out calibration data)"
            == checks[0].text
        )
        assert checks[1].text.startswith("accuracy drops by 2 points (2 to 2); asked for at most 1 (200 samples")
        assert checks[2].text.startswith("20.00 dB (20.0 to 20.0); asked for at least 21 dB (")

    def test_the_worst_output_decides(self) -> None:
        """A gate holds for every output."""
        good, bad = seen(1.0, 40.0).outputs[0], seen(0.9, 10.0).outputs[0]
        both = SetFigures("x", 10, (good, bad), None)
        assert not Gates(min_agreement=0.95).met(both)
        assert not Gates(min_sqnr=20).met(both)
        assert "agreement 90.00 %, SQNR 10.00 dB" == in_words(both)


class TestCheckPossible:
    """A gate that could never be decided is refused before the work starts."""

    PIVOT = ModelFile.read(FLOAT)
    DATA = spoiled.calibration_set(FLOAT, spoiled.images(4))

    def test_drop_without_data(self) -> None:
        """A drop needs --verify."""
        with pytest.raises(DataError, match="needs labels: pass data with labels as --verify"):
            Gates(max_drop=1).check_possible(self.PIVOT, self.DATA, None)

    def test_drop_without_labels(self) -> None:
        """Data of --verify without labels are named."""
        with pytest.raises(DataError, match=r"--max-drop needs labels, and .* has none"):
            Gates(max_drop=1).check_possible(self.PIVOT, self.DATA, self.DATA)

    def test_drop_with_labels(self, tmp_path: Path) -> None:
        """Labelled data are taken."""
        np.savez(tmp_path / "v.npz", x=spoiled.images(4), y=np.arange(4))
        data = spoiled.calibration_set(FLOAT, f"{tmp_path / 'v.npz'}:x=x,y=y")
        Gates(max_drop=1).check_possible(self.PIVOT, self.DATA, data)

    def test_agreement_without_classes(self) -> None:
        """A model without class scores cannot agree on classes."""
        model = editing_reshape()
        data = spoiled.calibration_set(model, np.zeros((2, 8), np.float32))
        with pytest.raises(OptionError, match="no output of class scores"):
            Gates(min_agreement=0.9).check_possible(ModelFile.read(model), data, None)
        Gates(min_agreement=0.9).check_possible(self.PIVOT, self.DATA, None)


def editing_reshape() -> bytes:
    """A model with an output of three axes."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("y", (1, 2, 4))
    shape = b.tensor("shape", (3,), "int32", data=np.array([1, 2, 4], np.int32))
    b.op("RESHAPE", [x, shape], [y])
    return b.build({"x": x}, {"y": y})


class TestProver:
    """Figures of one candidate after the other."""

    def test_the_same_as_the_proof(self) -> None:
        """They are those that the proof of the finished file has."""
        data = spoiled.calibration_set(FLOAT, spoiled.images(40))
        report = verify(
            FLOAT, ModelFile.read(INT8), {"calibration": data}, io_type="int8", strict=False, allow_custom=(),
            int8_operators=int8_operators(), metric="accuracy", choice=DelegateChoice(SPEC, "testing"),
            progress=lambda step, done, total: None,
        )  # fmt: skip
        prover = Prover(FLOAT, data, metric="accuracy", spec=SPEC)
        assert report.on["calibration"] == prover(INT8) == prover(INT8)

    def test_some_samples_only(self) -> None:
        """Held-out samples are those at the places that were named."""
        images = spoiled.images(40)
        part = Prover(
            FLOAT, spoiled.calibration_set(FLOAT, images), metric="accuracy", spec=SPEC, only=frozenset(range(10, 30))
        )(INT8)
        whole = Prover(FLOAT, spoiled.calibration_set(FLOAT, images[10:30]), metric="accuracy", spec=SPEC)(INT8)
        assert part is not None
        assert whole is not None
        assert (20, whole.outputs) == (part.count, part.outputs)

    def test_a_candidate_that_does_not_run(self) -> None:
        """There are no figures of it."""
        data = spoiled.calibration_set(FLOAT, spoiled.images(4))
        assert Prover(FLOAT, data, metric="accuracy", spec=SPEC)(models.custom_op()) is None

"""The rescue: the cheapest operators leave int8 until a gate is met, on a network whose weak place is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import spoiled

from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign import Rescue, rescue
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.estimates import FLOAT as FLOAT_CODE
from edgekit_convert.assign.estimates import INT8 as INT8_CODE
from edgekit_convert.assign.estimates import INT16 as INT16_CODE
from edgekit_convert.assign.estimates import Network
from edgekit_convert.assign.gates import Gates, Prover
from edgekit_convert.assign.sensitivity import measure_alone

SPEC = DelegateSpec("none", 1)
FLOAT = spoiled.float_model()
INT8, RANGES = spoiled.quantised(FLOAT)
SAMPLES = [[image[None]] for image in spoiled.images(24, seed=1)]
DATA = spoiled.calibration_set(FLOAT, spoiled.images(60, seed=3))
PROVE = Prover(FLOAT, DATA, metric="accuracy", spec=SPEC)


def run(
    gates: Gates, costs: CostTable, *, io: str = "int8", prefer: tuple[str, ...] = (), int8: bytes = INT8
) -> Rescue:
    """Rescue the spoiled network."""
    return rescue(int8, FLOAT, RANGES, gates=gates, prove=PROVE, samples=SAMPLES, costs=costs, io=io, prefer=prefer)


def with_times(int8: float, int16: float, float32: float, change: float = 100.0) -> CostTable:
    """A table of no machine at hand, in which an operator takes a time by its type only."""
    table = CostTable(SPEC)
    network = Network(INT8, FLOAT)
    network.learn_times(table, RANGES, lambda step, done, total: None)
    entries: dict[str, float | None] = {}
    for key in table.to_json()["entries"]:
        kind = int16 if "int16" in key else int8 if "int8" in key else float32
        entries[key] = 0.0 if key == "an empty run" else change if key.startswith("change") else kind
    return CostTable(SPEC, measured_on={"host": {}, "engine": "none"}, entries=entries)


class TestRescue:
    """What leaves int8, and what is said of it."""

    def test_the_gate_is_met_by_the_weak_place_alone(self) -> None:
        """The mean over the enlarged channel and the layer that reads it go to float, nothing else."""
        result = run(Gates(min_sqnr=25), with_times(1000, 9000, 1500))
        assert {"pooled": "float", "logits": "float"} == result.layers
        assert result.met
        assert Gates(min_sqnr=25).met(PROVE(result.model) or pytest.fail("it does not run"))
        assert [False, True, True] == [step.met for step in result.steps][:3]
        [summary, layers] = result.findings()
        assert ("warning", "rescue") == (summary.level, summary.code)
        assert summary.text.startswith("plain int8 misses the gate (agreement 90.00 %, SQNR 8.43 dB). ")
        assert "Operators that left int8: 2 in float. Now agreement 98.33 %, SQNR 27.31 dB" in summary.text
        assert "MEAN 'pooled' to FULLY_CONNECTED 'logits' (2 operators) in float; about" in layers.text

    def test_the_price_is_measured(self) -> None:
        """Latency is that of the real files, one run after the other."""
        result = run(Gates(min_sqnr=25), CostTable(SPEC))
        assert result.latency_before_ns is not None
        assert result.latency_after_ns is not None
        assert result.latency_ratio == result.latency_after_ns / result.latency_before_ns
        assert f"at {result.latency_ratio:.2f} times the latency" in result.findings()[0].text

    def test_int16_where_that_is_cheaper(self) -> None:
        """With float far slower than int16 in the table, the same operators get int16 activations."""
        result = run(Gates(min_sqnr=20), with_times(1000, 1500, 90000))
        assert result.met
        assert {"int16"} == set(result.layers.values())
        assert [] == [op.name for op in inspect(ModelFile.read(result.model)).ops if op.type == "float32"]

    def test_everything_where_float_costs_nothing(self) -> None:
        """Where every operator is faster in float nothing stays in int8, and no other set is built."""
        result = run(Gates(min_sqnr=25), with_times(1000, 9000, 10, change=1))
        assert {"features", "pooled", "logits", "probabilities"} == set(result.layers)
        assert [0, 4] == [step.float_ops for step in result.steps]

    def test_the_same_table_gives_the_same_file(self) -> None:
        """With the table of the first run the second one decides and reports the same, bit for bit."""
        costs = CostTable(SPEC)
        first = run(Gates(min_sqnr=25), costs)
        kept = CostTable(SPEC, measured_on=costs.measured_on, entries=costs.to_json()["entries"])
        second = run(Gates(min_sqnr=25), kept)
        assert first.model == second.model
        assert first.to_json() == second.to_json()
        assert costs.sha256 == second.cost_table

    def test_a_gate_that_is_met_already(self) -> None:
        """Nothing leaves int8, and nothing is measured."""
        costs = CostTable(SPEC)
        result = run(Gates(min_sqnr=5), costs)
        assert (True, {}, INT8, ()) == (result.met, result.layers, result.model, result.findings())
        assert {} == costs.to_json()["entries"]

    def test_a_gate_beyond_the_edges(self) -> None:
        """When even all in float between int8 ends misses it, the search stops there and says what would help."""
        costs = CostTable(SPEC)
        result = run(Gates(min_sqnr=90), costs)
        assert (False, {}, INT8) == (result.met, result.layers, result.model)
        assert [0, 4] == [step.float_ops for step in result.steps]
        [finding] = result.findings()
        assert "the gate cannot be met" in finding.text
        assert "every operator in float between int8 inputs and outputs: agreement 100.00 %" in finding.text
        assert finding.text.endswith("--io float32 keeps them exact.")
        assert {} == costs.to_json()["entries"]

    def test_float_edges_meet_it(self) -> None:
        """The remedy holds: with float32 inputs and outputs the same gate can be met."""
        int8, _ = spoiled.quantised(FLOAT, "float32")
        assert run(Gates(min_sqnr=90), CostTable(SPEC), io="float32", int8=int8).met

    def test_preferred_operators_come_first(self) -> None:
        """What was named is tried before anything that the estimates say, and taken back where it did not help."""
        result = run(Gates(min_sqnr=25), with_times(1000, 9000, 1500), prefer=("probabilities", "no such operator"))
        assert result.met
        assert "probabilities" not in result.layers

    def test_the_simple_answer_where_it_is_clearly_cheaper(self) -> None:
        """Float for the preferred operators meets the gate, and int16 for all of them does so in a fraction of the time."""
        result = run(Gates(min_sqnr=20), with_times(1000, 1500, 90000), prefer=("pooled", "logits"))
        assert result.met
        assert {"features", "pooled", "logits", "probabilities"} == set(result.layers)
        assert {"int16"} == set(result.layers.values())

    def test_as_json(self) -> None:
        """The manifest's form has what was done, tried, seen and paid."""
        found = run(Gates(min_sqnr=25), with_times(1000, 9000, 1500)).to_json()
        assert found["met"]
        assert ["pooled", "logits"] == [item["output"] for item in found["runs"][0]["operators"]]
        assert found["bytes_after"] > found["bytes_before"] == len(INT8)
        assert len(found["cost_table"]) == 64
        assert found["latency_ratio"] is None  # the table is of no machine at hand
        assert found == json.loads(json.dumps(found))


class TestNetwork:
    """Estimates of noise and time."""

    def network(self) -> Network:
        """The spoiled network with what is known of it."""
        network = Network(INT8, FLOAT)
        network.learn_noise(measure_alone(FLOAT, INT8, SAMPLES, apart=True))
        network.learn_times(with_times(1000, 9000, 1500), RANGES, lambda step, done, total: None)
        return network

    def test_a_run_pays_for_its_edges_once(self) -> None:
        """Four operators at 1000; two of them in float at 1500 with a change of type on either side."""
        network = self.network()
        assert ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"] == network.kinds
        rows = np.full((4, 4), INT8_CODE, np.uint8)
        rows[1, 1:3] = FLOAT_CODE  # neighbours: two edges
        rows[2, [0, 2]] = FLOAT_CODE  # apart: four edges
        rows[3] = FLOAT_CODE  # all: the model's own input and output
        # A change at 100 for both sizes is 100 at any.
        assert [4000.0, 5200.0, 5400.0, 6200.0] == list(network.time(rows))

    def test_a_grid_goes_when_writer_and_reader_leave(self) -> None:
        """The mean's own grid stays while the layer that reads it is int8; the input's and output's own stay always."""
        network = self.network()
        alone = {item.name: item for item in measure_alone(FLOAT, INT8, SAMPLES, apart=True)}
        rows = np.full((3, 4), INT8_CODE, np.uint8)
        rows[0, 1] = FLOAT_CODE
        rows[1, 1:3] = FLOAT_CODE
        rows[2] = FLOAT_CODE
        lone, pair, everything = (float(value) for value in network.noise(rows))
        assert network.noise_of_plain == pytest.approx(sum(item.weights + item.grid for item in alone.values()))
        assert lone == pytest.approx(network.noise_of_plain)
        assert network.noise_of_plain - pair == pytest.approx(alone["pooled"].grid + alone["logits"].weights)
        assert everything == pytest.approx(alone["image"].grid)

    def test_int16_keeps_the_rounded_weights(self) -> None:
        """With int16 activations a layer's grid goes, and what its int8 weights lose stays."""
        network = self.network()
        alone = {item.name: item for item in measure_alone(FLOAT, INT8, SAMPLES, apart=True)}
        rows = np.full((1, 4), INT8_CODE, np.uint8)
        rows[0, 1:3] = INT16_CODE
        assert network.noise_of_plain - float(network.noise(rows)[0]) == pytest.approx(alone["pooled"].grid)

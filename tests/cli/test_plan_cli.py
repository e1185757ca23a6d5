"""``edgekit plan``: the pick, the real partitions here, and why not the others."""

from __future__ import annotations

import json
from pathlib import Path

import one_op_models as ones
import pytest
import tiny_models as models
from click.testing import CliRunner, Result

from edgekit.cli import SUMMARIES, cli
from edgekit.cli.plan import command
from edgekit.inspection import inspect
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable, form_of
from edgekit_convert.graph.slices import Sliceable
from edgekit_profiles import find_target


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder of the user's own profiles, an empty cache, and no Vulkan driver."""
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))
    monkeypatch.setenv("EDGEKIT_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path / "cache"))


def run(*arguments: str | Path) -> Result:
    """Run ``edgekit plan`` in this process."""
    return CliRunner().invoke(cli, ["plan", *(str(item) for item in arguments)])


def other_device() -> str:
    """A profile that this machine is not."""
    return "generic-aarch64-linux" if not find_target("generic-aarch64-linux").here else "generic-x86_64-linux"


def test_summary() -> None:
    """``edgekit --help`` says what the command's own help says."""
    assert (command.help or "").split("\n")[0] == SUMMARIES["plan"]


def test_plan_for_this_machine(conv_float_file: Path) -> None:
    """XNNPACK, what it really takes, and a reason for each other delegate."""
    result = run(conv_float_file, "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    partitions = inspect(conv_float_file).partitions
    assert partitions is not None
    target = find_target(None)
    assert data["device"] == {
        "id": target.profile.id if target.profile else None,
        "name": target.profile.name if target.profile else None,
        "is_this_machine": True,
        "reason": target.reason,
        "attached": [item.id for item in target.attached],
    }
    assert data["pick"]["delegate"] == "xnnpack"
    assert data["partitions"] == partitions.to_json()
    assert data["mac_share"] == 1.0
    assert data["problem"] is None
    reasons = {item["delegate"]: item["reason"] for item in data["rejected"]}
    assert sorted(reasons) == ["edgetpu", "gpu", "none", "npu"]
    assert reasons["edgetpu"].startswith("the model was not compiled for the Edge TPU (no operator edgetpu-custom-op)")
    assert reasons["gpu"].startswith("no Vulkan driver was found on this machine")
    assert reasons["npu"].startswith("this version of edgekit does not run models on an NPU")
    rows = {item["delegate"]: item for item in data["delegates"]}
    assert sorted(rows) == sorted([*reasons, "xnnpack"])
    assert (rows["xnnpack"]["picked"], rows["xnnpack"]["operator_share"], rows["xnnpack"]["mac_share"]) == (
        True,
        1.0,
        1.0,
    )
    assert {None} == {item["predicted_ns"] for item in rows.values()} | {item["measured"] for item in rows.values()}
    assert rows["edgetpu"]["share_by"].startswith("the rules of the Edge TPU compiler: ")


def test_plan_as_text(conv_float_file: Path) -> None:
    """The same for people."""
    result = run(conv_float_file, "--threads", "2")
    assert result.exit_code == 0
    for text in (
        "xnnpack, 2 threads",
        "2 threads, as asked for",
        "100.0 % of the multiply-accumulates",
        "edgetpu",
        "gpu",
    ):
        assert text in " ".join(result.stdout.split())


def test_plan_for_another_machine(conv_float_file: Path) -> None:
    """The pick follows the profile; nothing is tried here, and the plan says so."""
    device = other_device()
    result = run(conv_float_file, "--device", device, "--threads", "3", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["device"]["id"], data["device"]["is_this_machine"]) == (device, False)
    assert (data["pick"]["delegate"], data["pick"]["threads"]) == ("xnnpack", 3)
    assert f"This machine is not {device}, so the hardware that this needs was not looked for" in data["pick"]["reason"]
    assert data["partitions"] is None
    assert data["problem"] == f"this machine is not {device}"
    predicted = data["delegate"]["report"]
    assert (predicted["target"], predicted["predicted"], predicted["partitions"]["taken"]) == (device, True, 4)
    text = run(conv_float_file, "--device", device)
    assert text.exit_code == 0
    assert f"not tried: this machine is not {device}" in text.stdout
    assert "xnnpack: 4 of 4 operators in 1 partition, as ai-edge-litert" in " ".join(text.stdout.split())


def test_what_is_left_outside(tmp_path: Path) -> None:
    """With its reason, for this machine and as a prediction for another."""
    path = tmp_path / "hard_swish.tflite"
    path.write_bytes(ones.hard_swish())
    for arguments, where in (
        ((), "(tried on "),
        (("--device", other_device()), f"(predicted for {other_device()}, tried on "),
    ):
        result = run(path, *arguments)
        assert result.exit_code == 0
        text = " ".join(result.stdout.replace("│", " ").split())
        assert f"Left outside by xnnpack {where}" in text
        assert "XNNPACK has no kernel for HARD_SWISH in int8; in float32 it is taken." in text


def test_plan_for_a_model_that_cannot_run_here(tmp_path: Path) -> None:
    """A custom operator that no delegate here has: the plan is printed, with why, and the exit code is 1."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("CUSTOM", [x], [y])
    b.codes[0].customCode = b"operator-of-nobody"
    path = tmp_path / "custom.tflite"
    path.write_bytes(b.build({"x": x}, {"y": y}))
    result = run(path, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["partitions"] is None
    assert "operator-of-nobody" in data["problem"]
    text = run(path)
    assert text.exit_code == 1
    assert "not loaded: " in text.stdout


def test_measured(conv_float_file: Path) -> None:
    """The times are printed, the pick follows them, and a later plan has them as what is predicted."""
    result = run(conv_float_file, "--measure", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    times = {item["delegate"]: item["measured"]["ns"] for item in data["delegates"] if item["measured"] is not None}
    assert sorted(times) == ["none", "xnnpack"]
    assert data["pick"]["reason"].startswith("measured ")
    later = json.loads(run(conv_float_file, "--json").stdout)
    assert (later["pick"], times) == (
        data["pick"],
        {item["delegate"]: item["predicted_ns"] for item in later["delegates"] if item["predicted_ns"] is not None},
    )
    text = " ".join(run(conv_float_file).stdout.replace("│", " ").split())
    assert data["pick"]["reason"] in text


def test_a_required_gpu(conv_float_file: Path) -> None:
    """Exit code 1, the sentence on stderr, and the plan all the same; the required CPU is got."""
    result = run(conv_float_file, "--require", "gpu", "--json")
    assert result.exit_code == 1
    assert "edgekit: gpu was required and cannot be used: no Vulkan driver was found on this machine" in result.stderr
    data = json.loads(result.stdout)
    assert (data["required"], data["pick"]["delegate"], data["problem"]) == ("gpu", "xnnpack", None)
    assert run(conv_float_file, "--require", "xnnpack").exit_code == 0


def test_a_cost_table(conv_float_file: Path, tmp_path: Path) -> None:
    """Times that were not measured are predicted from it, where it has all operators."""
    table = tmp_path / "costs.json"
    whole = Sliceable(conv_float_file.read_bytes())
    costs = CostTable(DelegateSpec("xnnpack", 1))
    costs.measure([[form_of(whole, op)] for op in whole.main.ops])
    costs.save(table)
    data = json.loads(run(conv_float_file, "--cost-table", table, "--threads", "1", "--json").stdout)
    rows = {item["delegate"]: item for item in data["delegates"]}
    assert rows["xnnpack"]["predicted_ns"] == sum(costs.ns(form_of(whole, op).key) or 0.0 for op in whole.main.ops)
    assert "the sum of its operators' times in costs.json" in rows["xnnpack"]["predicted_by"]
    assert rows["none"]["predicted_ns"] is None
    known = json.loads(table.read_text())
    known["entries"].popitem()
    table.write_text(json.dumps(known))
    data = json.loads(run(conv_float_file, "--cost-table", table, "--threads", "1", "--json").stdout)
    assert {None} == {item["predicted_ns"] for item in data["delegates"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MODEL", "--require", "cpu"), "edgekit: error: unknown delegate 'cpu': expected one of"),
        (("missing.tflite",), "edgekit: error: no such file: missing.tflite."),
        (("MODEL", "--device", "toaster"), "edgekit: error: unknown device 'toaster'. Known devices: "),
        (("MODEL", "--threads", "0"), "edgekit: error: 0 threads asked for: from 1 to 1024 were expected."),
        (("MODEL", "--threads", "two"), "Error: Invalid value for '--threads': 'two' is not a valid integer."),
    ],
)
def test_wrong_usage(conv_float_file: Path, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, one message, no traceback."""
    result = run(*(conv_float_file if item == "MODEL" else item for item in arguments))
    assert result.exit_code == 2
    assert message in result.output


def test_a_damaged_model(tmp_path: Path) -> None:
    """Exit code 2 and what is wrong with the file."""
    path = tmp_path / "damaged.tflite"
    path.write_bytes(models.conv_float()[:300])
    result = run(path)
    assert result.exit_code == 2
    assert "is damaged or cut short (300 bytes)" in result.output

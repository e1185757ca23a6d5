"""``edgekit.host`` on hostile trees: missing, unreadable, huge and garbage files, links that lead astray."""

from __future__ import annotations

import os
import random
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import machine_trees as trees
import pytest
from recorded_machines import MACHINES

from edgekit.host import READ_LIMIT_BYTES, Fact, HostFacts, read_host

#: Every file of every recorded machine.
ALL: dict[str, str | bytes] = {name: content for machine in MACHINES for name, content in machine.files.items()}
#: Of these only the names are read.
NAMES_ONLY = (".json", ".so", ".so.1", "dev/apex_0")


def _directory(path: Path) -> None:
    path.mkdir()


def _named_pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 300)


def _text_without_meaning(path: Path) -> None:
    path.write_text("processor: \x1b[31m\nMemTotal: many kB\nCPU part : 0xZZ\n: :\n\n")


def _empty(path: Path) -> None:
    path.touch()


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 64 * 2**30)  # sparse: it takes no room on the disk


def _link_in_a_circle(path: Path) -> None:
    path.symlink_to(f"{path.name}.other")
    path.with_name(f"{path.name}.other").symlink_to(path.name)


@pytest.mark.parametrize(
    "spoil",
    [
        _directory,
        _named_pipe,
        _link_to_itself,
        _link_in_a_circle,
        _random_bytes,
        _text_without_meaning,
        _empty,
        _huge,
    ],
)
def test_spoilt_files_are_unknown_facts(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Each file of each recorded machine replaced by something hostile: nothing is known, nothing raises or hangs."""
    for name, content in ALL.items():
        path = tmp_path / name
        if not name.endswith(NAMES_ONLY) and not isinstance(content, trees.Link):
            path.parent.mkdir(parents=True, exist_ok=True)
            spoil(path)
    assert read_host(tmp_path) == HostFacts()


def test_damaged_files_never_raise(tmp_path: Path) -> None:
    """Bytes changed, cut off and repeated at random in one file after the other: facts are missing or well-formed."""
    chance = random.Random(20261121)
    for number, machine in enumerate(MACHINES):
        root = trees.plant(tmp_path / str(number), machine.files)
        for name, content in machine.files.items():
            if isinstance(content, trees.Link):
                continue
            original = content.encode() if isinstance(content, str) else content
            for _ in range(2):
                damaged = bytearray(original * chance.choice((1, 1, 3)))
                for _ in range(chance.randrange(1, 8)):
                    if damaged:
                        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
                (root / name).write_bytes(damaged[: chance.randrange(len(damaged) + 1)])
                facts = [fact for _, fact in read_host(root).items() if fact is not None]
                values = [item for fact in facts for item in _each(fact.value)]
                assert [item for item in values if isinstance(item, str) and not (item and item.isprintable())] == []
            (root / name).write_bytes(original)


def _each(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_huge_files_are_read_only_in_part(tmp_path: Path) -> None:
    """A file of 64 GiB costs no more memory than the limit for one file, and the fact at its start is found."""
    path = trees.plant(tmp_path, {"proc/meminfo": "MemTotal:        8241152 kB\n"}) / "proc" / "meminfo"
    os.truncate(path, 64 * 2**30)
    tracemalloc.start()
    facts = read_host(tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts.memory_bytes == Fact(8_438_939_648, "/proc/meminfo (MemTotal)")
    assert peak_bytes < 16 * READ_LIMIT_BYTES


def test_unreadable_files_are_unknown_facts_and_the_others_stay() -> None:
    """A file without read permission is skipped; root gives up its rights for the moment, since it may read everything."""
    with tempfile.TemporaryDirectory() as folder:
        root = trees.plant(Path(folder), trees.RASPBERRY_PI_5)
        root.chmod(0o755)
        (root / "proc" / "meminfo").chmod(0)
        (root / "sys" / "bus").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)
        try:
            facts = read_host(root)
        finally:
            os.seteuid(user)
            (root / "sys" / "bus").chmod(0o755)
    assert facts.memory_bytes is None
    assert facts.edgetpu_devices is None
    assert facts.cpu_model == Fact("4x Cortex-A76", "/proc/cpuinfo (CPU part)")


@pytest.mark.parametrize("text", ["999999999", "-400000", "48.85", "hot", "1" * 300])
def test_impossible_temperatures_are_unknown(tmp_path: Path, text: str) -> None:
    """A temperature outside what a chip survives, or no number, is not a fact."""
    assert read_host(trees.plant(tmp_path, {"sys/class/thermal/thermal_zone0/temp": text})) == HostFacts()


@pytest.mark.parametrize("text", ["3-0", "0-99999999", "a-b", "0-3,x", "-1"])
def test_impossible_processor_lists_are_unknown(tmp_path: Path, text: str) -> None:
    """A list of processors that makes no sense is not a fact."""
    assert read_host(trees.plant(tmp_path, {"sys/devices/system/cpu/online": text})) == HostFacts()


@pytest.mark.parametrize("way", ["/{outside}", "../../../../../../../../../../../../{outside}", "../outside"])
def test_a_link_out_of_a_recorded_tree_is_not_followed(tmp_path: Path, way: str) -> None:
    """Following one would tell of this machine: an absolute link starts at the tree's root, and above that is nothing."""
    outside = trees.plant(tmp_path / "outside", {"model": b"Raspberry Pi 5 Model B Rev 1.0\0"})
    root = trees.plant(tmp_path / "root", {"sys/firmware/devicetree/base/model": b"Another board\0"})
    (root / "proc").mkdir()
    (root / "proc" / "device-tree").symlink_to(way.format(outside=str(outside)[1:]))
    assert read_host(root).device_tree_model == Fact("Another board", "/sys/firmware/devicetree/base/model")


def test_a_recorded_absolute_link_is_followed_inside_the_tree(tmp_path: Path) -> None:
    """As the kernel makes it: /proc/device-tree is a link to /sys/firmware/devicetree/base."""
    files: dict[str, str | bytes] = {
        "sys/firmware/devicetree/base/model": b"A board\0",
        "proc/device-tree": trees.Link("/sys/firmware/devicetree/base"),
    }
    assert read_host(trees.plant(tmp_path, files)).device_tree_model == Fact("A board", "/proc/device-tree/model")


def test_a_device_tree_list_with_garbage_in_it_is_unknown(tmp_path: Path) -> None:
    """Of a list that is damaged in one place the others are not believed either."""
    files = {"proc/device-tree/compatible": b"radxa,rock-5b\0rockchip,\x8033588\0"}
    assert read_host(trees.plant(tmp_path, files)) == HostFacts()


def test_names_that_a_terminal_would_obey(tmp_path: Path) -> None:
    """A name with control characters, or with bytes that are no text, does not come into a fact."""
    for name in (b"2-1\x1b[31m", b"2-1\xff", b"2-1\n"):
        folder = os.path.join(os.fsencode(tmp_path), b"sys/bus/usb/devices", name)
        os.makedirs(folder)
        for file, text in ((b"idVendor", b"18d1\n"), (b"idProduct", b"9302\n")):
            with open(os.path.join(folder, file), "wb") as opened:
                opened.write(text)
    assert read_host(tmp_path) == HostFacts()


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    """A file, a link to itself and a pipe instead of a root folder tell nothing."""
    for name, make in (("file", _random_bytes), ("link", _link_to_itself), ("pipe", _named_pipe)):
        make(tmp_path / name)
        assert read_host(tmp_path / name) == HostFacts()


@pytest.mark.parametrize("root", ["/", "//", "/.", "/proc/.."])
def test_other_names_of_this_machines_root(root: str) -> None:
    """They all are this machine, of which the kernel is asked."""
    facts = read_host(root)
    assert facts.machine == Fact(os.uname().machine, "uname")


def test_a_folder_without_end(tmp_path: Path) -> None:
    """Of a folder with very many entries only the first ones are looked at."""
    base = tmp_path / "sys" / "bus" / "usb" / "devices"
    for number in range(700):
        device = base / f"1-{number:04d}"
        device.mkdir(parents=True)
        (device / "idVendor").write_text("18d1\n")
        (device / "idProduct").write_text("9302\n")
    devices = read_host(tmp_path).edgetpu_devices
    assert devices is not None
    assert len(devices.value) == 512


def test_trees_that_are_made_to_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Very many library folders, control groups, zones and drivers: the number of files that are looked at stays small."""
    calls: dict[str, int] = {"open": 0, "stat": 0}

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            calls[name] += 1
            return function(*arguments, **named)

        return call

    for number in range(1500):
        (tmp_path / "usr" / "lib" / f"a{number}-linux-gnu").mkdir(parents=True)
        (tmp_path / "sys" / "class" / "thermal" / f"thermal_zone{number}").mkdir(parents=True)
    deep = "/".join("d" * 40)
    trees.plant(
        tmp_path, {"proc/self/cgroup": f"0::/{deep}\n1:cpu:/{deep}\n" * 2000, "proc/bus/pci/devices": "0\n" * 60_000}
    )
    monkeypatch.setattr(os, "open", counted("open", os.open))
    monkeypatch.setattr(os, "stat", counted("stat", os.stat))
    assert read_host(tmp_path) == HostFacts()
    assert calls["open"] < 6000
    assert calls["stat"] < 6000

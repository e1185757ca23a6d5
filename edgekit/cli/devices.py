"""``edgekit devices``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.output import print_json, print_pairs, print_table
from edgekit.errors import ProfileError
from edgekit.host import HostFacts, read_host
from edgekit_profiles import DeviceProfile, detect, load_profile
from edgekit_profiles.detect import Detection
from edgekit_profiles.loader import load_file, profile_files

_UNKNOWN = "unknown"


@click.group("devices")
def command() -> None:
    """List, show and detect device profiles."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List the device profiles, edgekit's and your own."""
    detected = detect(read_host()).profile
    items: list[dict[str, Any]] = []
    for file in profile_files():
        item: dict[str, Any] = {"id": file.id, "name": None, "path": file.path, "user": file.user, "error": None}
        try:
            profile = load_file(file)
        except ProfileError as error:
            item["error"] = str(error)
        else:
            item["name"] = profile.name
        item["this_machine"] = detected is not None and detected.origin == item["path"]
        items.append(item)
    if as_json:
        print_json(items)
    else:
        rows = [
            (
                item["id"],
                item["name"] or f"not valid: {item['error']}",
                item["path"] if item["user"] else "edgekit's",
                "yes" if item["this_machine"] else "",
            )
            for item in items
        ]
        print_table("Device profiles", ("id", "name", "from", "this machine"), rows)
    if any(item["error"] for item in items):
        ctx.exit(1)


@command.command("show")
@click.argument("device", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def show(device: str, as_json: bool) -> None:
    """Show a device profile: every fact with where it is known from."""
    profile = load_profile(device)
    if as_json:
        print_json(profile.to_json())
        return
    print_table(f"{profile.name} ({profile.id})", ("fact", "value", "known from"), _facts(profile))


@command.command("detect")
@click.option("--explain", is_flag=True, help="Show every fact about this machine, and every profile's score.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def detect_command(explain: bool, as_json: bool) -> None:
    """Say which device profile this machine is."""
    host = read_host()
    detection = detect(host)
    if as_json:
        print_json({**detection.to_json(), "host": host.to_json()})
        return
    name = f"{detection.profile.id} ({detection.profile.name})" if detection.profile is not None else "none"
    print_pairs("This machine", [("device", name), ("reason", detection.reason)])
    if explain:
        _explain(host, detection)


def _explain(host: HostFacts, detection: Detection) -> None:
    rows = [
        (name, "not found", "") if fact is None else (name, _host_value(name, fact.value), fact.source)
        for name, fact in host.items()
    ]
    print_table("Facts", ("fact", "value", "read from"), rows)
    scores = [(item.profile_id, str(item.score), "; ".join(item.reasons)) for item in detection.candidates]
    print_table("Profiles", ("id", "score", "reasons"), scores)


def _facts(profile: DeviceProfile) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    match = profile.match
    if match is not None:
        rules = (("board", match.device_tree_model), ("architecture", match.machine), ("system", match.system))
        text = "; ".join(f"{name} {_value(values)}" for name, values in rules if values)
        rows.append(("recognised by", text, match.source))
    for cluster in profile.clusters:
        cores = f"{_or_unknown(cluster.cores)} x {cluster.name}, "
        clock = f"up to {cluster.max_hz / 1e9:g} GHz" if cluster.max_hz is not None else f"clock {_UNKNOWN}"
        rows.append(("cores", f"{cores}{clock}, features {_or_unknown(cluster.features)}", cluster.source))
    if profile.memory is not None:
        sizes = profile.memory.sizes_bytes
        text = ", ".join(f"{size / 2**30:g} GiB" for size in sizes) if sizes is not None else _UNKNOWN
        rows.append(("memory", text, profile.memory.source))
    rows.extend(
        (item.kind, f"{item.name}: {_or_unknown(item.interfaces)}", item.source) for item in profile.accelerators
    )
    for number, rule in enumerate(profile.delegates, 1):
        needs = f"needs {_value(rule.needs)}" if rule.needs else "needs nothing else"
        rows.append((f"delegate {number}", " ".join((f"{rule.kind}: {needs}.", *rule.limits)), rule.source))
    threads = profile.threads
    rows.append(("threads", f"{threads.default}; worth trying: {_value(threads.worth_trying)}", threads.source))
    for runtime in profile.runtimes:
        text = f"{runtime.package} {runtime.version} for Python {_or_unknown(runtime.pythons)}."
        rows.append(("runtime", " ".join((text, *runtime.limits)), runtime.source))
    if profile.thermal is not None:
        thermal = profile.thermal
        text = f"slower from {_celsius(thermal.throttle_from_c)}, limit {_celsius(thermal.limit_c)}"
        rows.append(("heat", text, thermal.source))
    rows.append(("file", profile.origin, "your own" if profile.user else "edgekit's"))
    return rows


def _celsius(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:g} °C"


def _or_unknown(value: object) -> str:
    return _UNKNOWN if value is None else _value(value)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _host_value(name: str, value: object) -> str:
    if name == "memory_bytes" and isinstance(value, int):
        return f"{value} ({value / 2**30:.1f} GiB)"
    return _value(value)

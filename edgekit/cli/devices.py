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
from edgekit_profiles.profile import MatchRules

_UNKNOWN = "unknown"


@click.group("devices")
def command() -> None:
    """List, show, detect and check device profiles."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List the device profiles, edgekit's and your own."""
    detection = detect(read_host())
    here = detection.profile.origin if detection.profile is not None else None
    attached = [profile.origin for profile in detection.attached]
    items: list[dict[str, Any]] = []
    for file in profile_files():
        item: dict[str, Any] = {
            "id": file.id,
            "name": None,
            "role": None,
            "path": file.path,
            "user": file.user,
            "error": None,
        }
        try:
            profile = load_file(file)
        except ProfileError as error:
            item["error"] = str(error)
        else:
            item.update(name=profile.name, role=profile.role)
        item["this_machine"] = file.path == here
        item["attached"] = file.path in attached
        items.append(item)
    if as_json:
        print_json(items)
    else:
        rows = [
            (
                item["id"],
                item["name"] or f"not valid: {item['error']}",
                item["path"] if item["user"] else "edgekit's",
                "yes" if item["this_machine"] else "attached" if item["attached"] else "",
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
@click.option(
    "--root",
    metavar="FOLDER",
    default="/",
    type=click.Path(exists=True, file_okay=False),
    help="A folder with a recorded copy of another machine's files (/proc, /sys, …). Default: this machine.",
)
@click.option("--explain", is_flag=True, help="Show every fact about the machine, and every profile's score.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def detect_command(root: str, explain: bool, as_json: bool) -> None:
    """Say which device profile this machine is, and what is attached to it."""
    host = read_host(root)
    detection = detect(host)
    if as_json:
        print_json({**detection.to_json(), "root": root, "host": host.to_json()})
        return
    rows = [("device", _named(detection.profile) if detection.profile is not None else "none")]
    rows.append(("reason", detection.reason))
    rows.extend(("attached", _named(profile)) for profile in detection.attached)
    print_pairs("This machine" if root == "/" else f"The machine recorded in {root}", rows)
    if explain:
        _explain(host, detection)


@command.command("validate")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def validate_command(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Check device profiles of your own, and say everything that is wrong with them.

    Exit code 1: something is wrong with one of them; 2: one cannot be read.
    """
    from edgekit_profiles.validate import validate

    found = [validate(file) for file in files]
    if as_json:
        print_json([item.to_json() for item in found])
    else:
        for item in found:
            if item.unreadable is not None:
                click.echo(item.unreadable)
            for problem in item.problems:
                click.echo(str(problem))
            if item.valid and item.profile is not None:
                click.echo(f"{item.path}: valid: {_named(item.profile)}")
            for note in item.notes:
                click.echo(f"{item.path}: note: {note}")
    if any(item.unreadable is not None for item in found):
        ctx.exit(2)
    if not all(item.valid for item in found):
        ctx.exit(1)


def _named(profile: DeviceProfile) -> str:
    return f"{profile.id} ({profile.name})"


def _explain(host: HostFacts, detection: Detection) -> None:
    rows = [
        (name, "not found", "") if fact is None else (name, _host_value(name, fact.value), fact.source)
        for name, fact in host.items()
    ]
    print_table("Facts", ("fact", "value", "read from"), rows)
    scores = [(item.profile_id, str(item.score), "; ".join(item.reasons)) for item in detection.candidates]
    print_table("Profiles", ("id", "score", "reasons"), scores)


_RULES: dict[str, str] = {
    "device_tree_model": "board",
    "device_tree_compatible": "device tree",
    "product": "product",
    "usb_ids": "USB",
    "pci_ids": "PCI",
    "machine": "architecture",
    "cpu_flags": "processor features",
    "system": "system",
}


def _recognised_by(match: MatchRules) -> str:
    rules = ((word, getattr(match, rule)) for rule, word in _RULES.items())
    return "; ".join(f"{word} {_value(values)}" for word, values in rules if values)


def _facts(profile: DeviceProfile) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    if profile.role != "machine":
        rows.append(("role", profile.role, "its delegates come before those of the machine that it is attached to"))
    if profile.match is not None:
        rows.append(("recognised by", _recognised_by(profile.match), profile.match.source))
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
        options = "".join(f", with {name}={value}" for name, value in rule.options.items())
        rows.append((f"delegate {number}", " ".join((f"{rule.kind}: {needs}{options}.", *rule.limits)), rule.source))
    if profile.fallback is not None:
        text = _value(profile.fallback) or "none: an error"
        rows.append(("fallback", text, "what to go on with when the delegate that was picked refuses to load"))
    threads = profile.threads
    rows.append(("threads", f"{threads.default}; worth trying: {_value(threads.worth_trying)}", threads.source))
    for runtime in profile.runtimes:
        text = f"{runtime.package} {runtime.version} for Python {_or_unknown(runtime.pythons)}"
        text += f" on {_value(runtime.machines)}." if runtime.machines is not None else "."
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

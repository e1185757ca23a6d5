"""``edgekit setup``."""

from __future__ import annotations

import click

from edgekit.cli.output import console, print_json, print_pairs, progress_bar
from edgekit.report.units import size_text


@click.command("setup")
@click.argument("name", metavar="NAME")
@click.option("--status", "only_status", is_flag=True, help="Only say whether it is there; the exit code is 1 if not.")
@click.option("--remove", is_flag=True, help="Remove it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(ctx: click.Context, name: str, only_status: bool, remove: bool, as_json: bool) -> None:
    """Make an environment of its own for what cannot share yours.

    NAME is what it is for: onnx reads ONNX models.

    It is a virtual environment in edgekit's cache folder (or in the folder that EDGEKIT_ENVIRONMENTS_DIR names), with exact
    versions. Nothing is installed into the environment that edgekit itself is in. After an interruption the same command
    goes on where it was.
    """
    from edgekit.errors import OptionError
    from edgekit_convert import environments

    if only_status and remove:
        raise OptionError("both --status and --remove were given: use one of them.")
    if remove:
        there = environments.status(name)
        if there.folder.exists():
            click.echo(f"Removing {there.folder} …", err=True)
        freed = environments.remove(name)
        if as_json:
            print_json({**environments.status(name).to_json(), "freed_bytes": freed})
        else:
            text = f"removed, {size_text(freed)} freed" if freed else "there was none"
            console().print(f"The {name} environment: {text}", markup=False, soft_wrap=True)
        return
    found = environments.status(name)
    if not only_status and found.state != "ready":
        lock = environments.lock_for(name)
        click.echo(
            f"Making an environment for {lock.purpose} in {found.folder}: {size_text(lock.download_bytes)} to download, "
            f"{size_text(lock.disk_bytes)} on the disk, two minutes or more as the network allows. Your own environment "
            "stays as it is. After an interruption the same command goes on where it was.",
            err=True,
        )
        with progress_bar() as progress:
            found = environments.make(name, progress)
    if as_json:
        print_json(found.to_json())
    else:
        pairs = [("state", found.state), ("folder", str(found.folder)), ("on the disk", size_text(found.disk_bytes))]
        pairs += list(found.versions.items())
        print_pairs(f"The {name} environment", pairs)
    ctx.exit(0 if found.state == "ready" else 1)

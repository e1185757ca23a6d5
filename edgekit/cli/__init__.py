"""The command line: one thin file per command that parses, calls the library and prints.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 a gate or a case failed,
2 wrong usage or unreadable input.
"""

from __future__ import annotations

import importlib

import click

from edgekit.errors import EdgekitError

#: Command name → the module that holds ``command``. A module is imported when its command runs.
COMMANDS: dict[str, str] = {
    "convert": "convert",
    "verify": "verify",
    "lint": "lint",
    "setup": "setup",
    "inspect": "inspect",
    "run": "run",
    "log": "log",
    "devices": "devices",
    "plan": "plan",
    "bench": "bench",
    "demo": "demo",
}

#: One line each, so that ``edgekit --help`` need not import the commands; a test compares them with the commands' own.
SUMMARIES: dict[str, str] = {
    "convert": "Turn a trained model into a proven int8 .tflite file.",
    "verify": "Compare a quantised model with its float original on data.",
    "lint": "Say what in a float model will hurt in int8, and the fix.",
    "setup": "Make an environment of its own for what cannot share yours.",
    "inspect": "Show what a .tflite file holds and what a delegate takes of it.",
    "run": "Run a model on arrays from a file and log the latency.",
    "log": "Read latency logs.",
    "devices": "List, show, detect and check device profiles.",
    "plan": "Say which delegate would run a model here, and why not the others.",
    "bench": "Measure load, first run, warm-up and steady latency of models.",
    "demo": "Train, convert, prove and benchmark a small model, offline.",
}


class _Commands(click.Group):
    """Imports a command's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"edgekit.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EdgekitError as error:
            click.echo(f"edgekit: error: {error}", err=True)
            ctx.exit(error.exit_code)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import edgekit

        click.echo(f"edgekit {edgekit.__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def cli() -> None:
    """Take a trained model, make it int8, prove that it is still right, and run it on a small device."""


def main() -> None:
    """The ``edgekit`` program."""
    from edgekit.cli.native import quiet_native_log

    with quiet_native_log():
        cli.main(prog_name="edgekit")

"""After the last stage, for a target with an Edge TPU: the operator check and the compiler."""

from __future__ import annotations

from dataclasses import replace

from edgekit.errors import OptionError
from edgekit.files import check_writable
from edgekit_convert.conversion import Conversion
from edgekit_convert.edgetpu.compiler import compiled_path, find_compiler
from edgekit_convert.edgetpu.step import for_edgetpu
from edgekit_convert.options import Files, Progress, Recipe, Target


def check_possible(recipe: Recipe, target: Target, files: Files) -> None:
    """See that the target can run what the recipe makes and that the compiled model can be written, before the work starts.

    Args:
        recipe: what was asked for.
        target: what the file is to run on.
        files: where the results go.

    Raises:
        OptionError: the target has an Edge TPU, which runs nothing but int8.
        OutputError: the compiled model's file exists, or cannot be written.
    """
    if not target.edgetpu:
        return
    if recipe.name not in ("auto", "int8"):
        raise OptionError(
            f"{target.elsewhere or 'the target'} has an Edge TPU, which runs int8 models only: recipe {recipe.name!r} was asked "
            "for, auto or int8 was expected."
        )
    if files.output is not None and find_compiler() is not None:
        check_writable(compiled_path(files.output), overwrite=files.overwrite)


def compile_for_target(conversion: Conversion, target: Target, tell: Progress) -> Conversion:
    """Add what a target with an Edge TPU needs; others get the conversion back as it is.

    Args:
        conversion: the finished model.
        target: what it is to run on.
        tell: called as ``tell(step, done, total)``.
    """
    if not target.edgetpu:
        return conversion
    made = for_edgetpu(conversion.model, tell)
    return replace(conversion, edgetpu=made, findings=(*conversion.findings, *made.findings()))

"""``edgekit run``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgekit.cli.output import print_json, print_table
from edgekit.errors import DataError, EngineError, TensorError, from_os_error
from edgekit.report.units import milliseconds
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.session import Session
from edgekit.tensors import Array, TensorSpec


@click.command("run")
@click.argument("model")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="[NAME=]FILE.npy",
    help="One input as an array, or [n, …] samples that are run one by one; give NAME= for models with several.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write the results: .npy for one output, .npz for several."
)
@click.option("--overwrite", is_flag=True, help="Replace the results file when it exists.")
@click.option("--log", type=click.Path(path_type=Path), help="Append each run's times to this JSON Lines file.")
@click.option("--delegate", metavar="KIND", help="xnnpack, none, gpu or edgetpu.  [default: the device profile's pick]")
@click.option(
    "--delegate-option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the delegate that --delegate names, such as precision=fp16.",
)
@click.option("--device", metavar="ID", help="A device profile.  [default: detected]")
@click.option("--require", metavar="KIND", help="Exit with 1 unless this delegate takes the whole model.")
@click.option(
    "--fallback",
    multiple=True,
    metavar="KIND",
    help="What to load the model on when the delegate refuses; again for more, in order.  [default: the device profile's order; "
    "nothing for a delegate that was named]",
)
@click.option("--no-fallback", is_flag=True, help="Fail when the delegate refuses.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option(
    "--engine",
    metavar="NAME",
    help="litert, tflite-runtime, litert-compiled or tensorflow.  [default: the first installed]",
)
@click.option("--signature", metavar="NAME", help="The entry point to run.  [default: the main one]")
@click.option("--preprocess", is_flag=True, help="Apply the manifest's resize, colour order and normalisation.")
@click.option("--native", is_flag=True, help="The arrays are the file's own integers, in and out.")
@click.option("--allow-non-finite", is_flag=True, help="Take NaN and infinity in inputs of real numbers.")
@click.option(
    "--on-fault",
    type=click.Choice(["raise", "next"]),
    default="raise",
    show_default=True,
    help="When a delegate fails while it runs: stop, or go on with the next one.",
)
@click.option("--isolate", is_flag=True, help="Run the model in a process of its own: for files from unknown sources.")
@click.option("--timeout-ms", type=click.IntRange(min=1), help="With --isolate: the most that a run may take.")
@click.option(
    "--memory-mb", type=click.IntRange(min=1), help="With --isolate: the most memory that the model may take."
)
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Run everything this many times."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    model: str,
    inputs: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    log: Path | None,
    delegate: str | None,
    options: tuple[str, ...],
    device: str | None,
    require: str | None,
    fallback: tuple[str, ...],
    no_fallback: bool,
    threads: int | None,
    engine: str | None,
    signature: str | None,
    preprocess: bool,
    native: bool,
    allow_non_finite: bool,
    on_fault: str,
    isolate: bool,
    timeout_ms: int | None,
    memory_mb: int | None,
    repeat: int,
    as_json: bool,
) -> None:
    """Run a model on arrays from a file and log the latency."""
    from edgekit.api import load
    from edgekit.files import check_writable

    if output is not None:
        check_writable(output, overwrite=overwrite)
    if fallback and no_fallback:
        raise click.UsageError("--fallback and --no-fallback exclude each other.")
    with load(
        model, delegate=_delegate(delegate, options), fallback=() if no_fallback else fallback or None, device=device, threads=threads, engine=engine, require=require, log=log,
        preprocess=preprocess, io="native" if native else "float", signature=signature, on_fault=on_fault, isolate=isolate,
        non_finite="allow" if allow_non_finite else "refuse", timeout_ms=timeout_ms, memory_mb=memory_mb,
    ) as session:  # fmt: skip
        samples = _samples(session, inputs, preprocess)
        results: list[Any] = []
        for _ in range(repeat):
            results = [session.run(sample) for sample in samples]
        summary = session.latency.summary()
        got = _got(session)
        arrays = _stack(session, results)
        if output is not None:
            _write(output, arrays, overwrite=overwrite)
        if as_json:
            print_json(
                {
                    "samples": len(samples),
                    "outputs": {
                        name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()
                    },
                    "latency": summary.to_json(),
                    "engine": session.engine,
                    "asked": {
                        "delegate": session.asked.spec.kind,
                        "threads": session.asked.spec.threads,
                        "reason": session.asked.reason,
                    },
                    "got": got.to_json() if got is not None else None,
                    "fallbacks": [item.to_json() for item in session.fallbacks],
                    "faults": [fault.error for fault in session.faults],
                    "log": str(log) if log else None,
                }
            )
            return
        labels = session.model.manifest.labels if session.model.manifest is not None else ()
        print_table(
            "Outputs",
            ("output", "shape", "first sample"),
            [_row(name, array, labels) for name, array in arrays.items()],
        )
        threads_text = (
            f"{session.asked.spec.threads or 1} thread{'' if (session.asked.spec.threads or 1) == 1 else 's'}"
        )
        click.echo(f"{summary.count} runs on {session.engine}, {got or session.asked.spec.kind}, {threads_text}")
        click.echo(
            f"latency p50 {milliseconds(summary.p50_ns)}, p90 {milliseconds(summary.p90_ns)}, p99 {milliseconds(summary.p99_ns)}, "
            f"max {milliseconds(summary.max_ns)}"
        )
    if log is not None:
        click.echo(f"each run's times: {log} (`edgekit log summary {log}`)")


def _delegate(kind: str | None, options: tuple[str, ...]) -> str | DelegateSpec | None:
    """The delegate with its options, as ``load`` takes it."""
    if not options:
        return kind
    if kind is None:
        raise click.UsageError("--delegate-option needs --delegate: options belong to one delegate.")
    pairs = [text.partition("=") for text in options]
    for name, mark, _ in pairs:
        if not name or not mark:
            raise click.UsageError(f"--delegate-option {name!r}: NAME=VALUE was expected.")
    return DelegateSpec(kind, options={name: value for name, _, value in pairs})


def _got(session: Session) -> PartitionReport | None:
    """What the delegate took, where the engine tells."""
    try:
        return session.partitions
    except EngineError:
        return None


def _samples(session: Session, texts: tuple[str, ...], preprocess: bool) -> list[dict[str, Array]]:
    named: dict[str, list[Array]] = {}
    for text in texts:
        name, path = _name_and_path(session, text)
        spec = _spec(session, name)
        if spec.name in named:
            raise TensorError(f"--input {spec.name} is given twice: each input takes one file.")
        named[spec.name] = _split(spec, _load(path), preprocess)
        if not named[spec.name]:
            raise DataError(f"{path} holds no samples.")
    counts = {len(rows) for rows in named.values()}
    if len(counts) != 1:
        raise DataError(
            f"the inputs have different numbers of samples: {', '.join(f'{k} {len(v)}' for k, v in named.items())}."
        )
    missing = [spec.name for spec in session.inputs if spec.name not in named]
    if missing:
        raise TensorError(
            f"no --input for {', '.join(missing)}: the model takes {', '.join(str(spec) for spec in session.inputs)}."
        )
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def _name_and_path(session: Session, text: str) -> tuple[str | None, Path]:
    """``NAME=FILE`` in its two parts; a file's own name may hold the sign too."""
    name, mark, path = text.partition("=")
    if mark and (any(spec.name == name for spec in session.inputs) or not Path(text).exists()):
        return name, Path(path)
    return None, Path(text)


def _spec(session: Session, name: str | None) -> TensorSpec:
    if name is None and len(session.inputs) == 1:
        return session.inputs[0]
    for spec in session.inputs:
        if spec.name == name:
            return spec
    raise TensorError(
        f"--input {name or 'without a name'}: the model's inputs are {', '.join(str(spec) for spec in session.inputs)}."
    )


def _load(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    except Exception as error:  # numpy passes on what its ZIP reader, tokenizer and allocator raise
        raise DataError(f"cannot read {path}: {error}. A file that numpy.save wrote was expected.") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an .npz archive: an .npy file with one array was expected.")
    return array


def _split(spec: TensorSpec, array: Array, preprocess: bool) -> list[Array]:
    """One run's arrays: the array itself, or its samples when its first axis is the number of samples."""
    if preprocess:
        return [array] if array.ndim < len(spec.shape) else list(array)
    if spec.accepts(array.shape):
        return [array]
    if spec.accepts((1, *array.shape)):
        return [array[None]]
    if array.ndim == len(spec.shape) and len(array) and spec.accepts((1, *array.shape[1:])):
        return [row[None] for row in array]
    raise TensorError(
        f"input {spec.name!r} has shape {list(array.shape)}: {list(spec.shape)}, one sample without the batch axis, or "
        f"[n, {', '.join(str(size) for size in spec.shape[1:])}] was expected."
    )


def _stack(session: Session, results: list[Any]) -> dict[str, Array]:
    rows = [result if isinstance(result, dict) else {session.outputs[0].name: result} for result in results]
    try:
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    except ValueError:  # outputs without a batch axis, or of changing size
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _write(path: Path, arrays: dict[str, Array], *, overwrite: bool) -> None:
    from edgekit.files import write_whole

    stream = io.BytesIO()
    if len(arrays) == 1:
        np.save(stream, next(iter(arrays.values())))
    else:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the arrays for its options
    write_whole(path, stream.getvalue(), overwrite=overwrite)


def _row(name: str, array: Array, labels: tuple[str, ...]) -> tuple[str, str, str]:
    first = array[0] if array.ndim else array
    if first.ndim == 1 and first.size >= 2:
        best = np.argsort(first)[::-1][:3]
        named = [f"{labels[i] if i < len(labels) else f'class {i}'}: {first[i]:.4g}" for i in best]
        text = ", ".join(named)
    else:
        text = f"{float(first.min()):.4g} to {float(first.max()):.4g}" if first.size else "empty"
    return name, str(list(array.shape)), text

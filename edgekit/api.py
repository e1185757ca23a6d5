"""``load`` and ``convert``: the one place, with the command line, that joins the three packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from edgekit.errors import OptionError, one_of
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.golden import GoldenReport
    from edgekit.preprocess import Preprocessing
    from edgekit.runtime.latency import LogOptions
    from edgekit.runtime.session import Session
    from edgekit_convert import Conversion, VerifyReport
    from edgekit_convert.delegate.report import DelegateReport
    from edgekit_profiles.plan import Expected, Plan
    from edgekit_profiles.trying import Share


def choose(
    model: ModelFile | None,
    *,
    delegate: str | DelegateSpec | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> DelegateChoice:
    """The delegate for a model: the one that was named, or the profile's pick.

    Args:
        model: the model it is for, or ``None`` when only the machine matters.
        delegate: a delegate's name, or a ``DelegateSpec`` with options for it; ``None`` lets the device profile choose.
        device: a profile id, or ``None`` to detect the machine.
        threads: CPU threads, or ``None`` for the profile's number (1 when the delegate was named).

    Raises:
        DelegateError: the name is unknown.
        ProfileError: the profile is unknown.
    """
    return _decide(model, delegate, device, threads)[0]


def _decide(
    model: ModelFile | None,
    delegate: str | DelegateSpec | None,
    device: str | None,
    threads: int | None,
    *,
    require: str | None = None,
    fallback: Sequence[str] | None = None,
) -> tuple[DelegateChoice, tuple[DelegateChoice, ...]]:
    """The delegate, and what to load the model on when that one refuses: of a named one only what the caller gave."""
    if delegate is not None and device is None:
        named = DelegateChoice(_spec(delegate, threads, None), "named by the caller")
        return named, tuple(
            DelegateChoice(DelegateSpec(kind, named.spec.threads), "a fallback, in the order that the caller gave")
            for kind in dict.fromkeys(fallback or ())
            if kind != named.spec.kind
        )
    import edgekit_profiles

    target = edgekit_profiles.find_target(device)
    choice = edgekit_profiles.choose_for(target, model, threads)
    if delegate is not None:
        choice = DelegateChoice(
            _spec(delegate, threads, choice.spec.threads), "named by the caller", (), choice.profile_id
        )
        fallback = fallback or ()
    elif require is not None and require != choice.spec.kind:
        options = next((rule.options for rule in target.rules if rule.kind == require), {})
        spec = DelegateSpec(require, choice.spec.threads, options)
        choice = DelegateChoice(spec, "required by the caller", (), choice.profile_id)
    return choice, edgekit_profiles.fallback_order(target, choice, model, fallback)


def _spec(delegate: str | DelegateSpec, threads: int | None, otherwise: int | None) -> DelegateSpec:
    spec = delegate if isinstance(delegate, DelegateSpec) else DelegateSpec(delegate)
    asked = threads if threads is not None else spec.threads
    return spec._replace(threads=asked if asked is not None else otherwise)


def load(
    source: str | os.PathLike[str] | bytes | ModelFile,
    *,
    delegate: str | DelegateSpec | None = None,
    device: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    io: str = "float",
    preprocess: bool = False,
    require: str | None = None,
    log: str | os.PathLike[str] | LogOptions | None = None,
    signature: str | None = None,
    copy: bool = True,
    non_finite: str = "refuse",
    fallback: Sequence[str] | None = None,
    on_fault: str = "raise",
    isolate: bool = False,
    timeout_ms: int | None = None,
    memory_mb: int | None = None,
) -> Session:
    """Load a model for running.

    Args:
        source: a ``.tflite`` file, its bytes, or a ``ModelFile``.
        delegate: ``xnnpack``, ``none``, ``gpu`` or ``edgetpu``, or a ``DelegateSpec`` with options for it; ``None`` lets the
            device profile choose.
        device: a profile id; ``None`` detects the machine when no delegate was named.
        threads: CPU threads; ``None`` for the profile's number, which is 1 when the delegate was named.
        engine: ``litert``, ``tflite-runtime``, ``litert-compiled`` or ``tensorflow``; ``None`` for the first that is installed.
        io: ``"float"`` for real numbers in and out, ``"native"`` for the file's own integers.
        preprocess: apply the manifest's preprocessing to each run's inputs.
        require: a delegate that must take every operator, or loading fails; without ``delegate`` it is the one that is loaded.
        log: a JSON Lines file to append each run's times to, or ``LogOptions`` with its path and bounds.
        signature: the entry point to run, by name; ``None`` for the main one.
        copy: whether results belong to the caller; with ``False`` the next run changes them.
        non_finite: ``"refuse"`` NaN and infinity in inputs of real numbers, or ``"allow"`` them.
        fallback: delegates to load the model on, in this order, when the chosen one cannot be loaded; ``None`` for the profile's
            order, or nothing when the delegate was named. Each one that refused is in ``session.fallbacks``, in the log's header
            and a warning of the logger ``edgekit``.
        on_fault: what to do when a delegate fails while it runs: ``"raise"`` the error, or load the model on the ``"next"`` delegate
            (of ``fallback``'s order; where there is none XNNPACK, then the interpreter's own kernels) and run the input there;
            ``session.faults`` tells.
        isolate: run the model in a process of its own with limits, for files from unknown sources.
        timeout_ms: with ``isolate``, the most that a run may take before the process is killed; ``None`` for a minute.
        memory_mb: with ``isolate``, the most memory that the model may take; ``None`` for 1024.

    Returns:
        A ``Session``, or an ``Isolated``, which has the same face; use it as a context manager.

    Raises:
        EdgekitError: the file, the delegate or the interpreter is not usable; the message says what to do.
    """
    one_of(on_fault, ("raise", "next"), "on_fault")

    def meanwhile() -> None:
        """Import what comes next while a large file is hashed."""
        from importlib import import_module

        for name in ("edgekit.runtime.session", *(("edgekit_profiles",) if delegate is None else ())):
            import_module(name)

    model = source if isinstance(source, ModelFile) else ModelFile.read(source, meanwhile=meanwhile)
    from edgekit.runtime.session import Session

    if require is not None and fallback:
        raise OptionError(f"require={require!r} allows no other delegate: leave out fallback, or require.")
    choice, alternatives = _decide(model, delegate, device, threads, require=require, fallback=fallback)
    path: Path | LogOptions | None = None
    if log is not None:
        from pathlib import Path

        path = Path(log) if isinstance(log, str | os.PathLike) else log
    fallbacks = list(alternatives) if on_fault == "next" else []
    if on_fault == "next" and not fallbacks:
        later = [kind for kind in ("xnnpack", "none") if kind != choice.spec.kind]
        fallbacks = [DelegateChoice(DelegateSpec(kind, choice.spec.threads), "after a fault") for kind in later]
    if isolate:
        if not copy or fallbacks or fallback:
            raise OptionError(
                "isolate=True copies results and has no next delegate: leave copy, fallback and on_fault at their defaults."
            )
        from edgekit.runtime.isolate import Isolated

        alone = Isolated(
            model, choice, timeout_ms=timeout_ms, memory_mb=memory_mb, log=path, engine=engine, io=io, preprocess=preprocess,
            require=require, signature=signature, non_finite=non_finite,
        )  # fmt: skip
        return cast("Session", alone)  # it has the same face
    if timeout_ms is not None or memory_mb is not None:
        raise OptionError("timeout_ms and memory_mb are limits of a process: they need isolate=True.")
    return Session(
        model, choice, engine=engine, io=io, preprocess=preprocess, require=require, log=path, signature=signature, copy=copy,
        non_finite=non_finite, fallbacks=fallbacks, alternatives=alternatives,
    )  # fmt: skip


def plan(
    source: str | os.PathLike[str] | bytes | ModelFile,
    *,
    device: str | None = None,
    threads: int | None = None,
    measure: bool = False,
    require: str | None = None,
    cost_table: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Plan:
    """Find out which delegate should run a model, and of each other one why not.

    Args:
        source: a ``.tflite`` file, its bytes, or a ``ModelFile``.
        device: a profile id; ``None`` for this machine.
        threads: CPU threads; ``None`` for the profile's number.
        measure: whether to try the accelerators and to time what works, each in processes of their own: about ten seconds. The
            times are remembered, and ``load`` follows them.
        require: a delegate that must be the pick and take the whole model; ``plan.unmet`` says why it is not.
        cost_table: a file of measured operator times that ``convert`` wrote: times that were not measured are predicted from it.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The plan: ``choice``, and ``delegates`` with availability, shares and times.

    Raises:
        EdgekitError: the file, the device or an option is not usable.
    """
    from edgekit_profiles import find_target
    from edgekit_profiles.plan import make_plan

    model = source if isinstance(source, ModelFile) else ModelFile.read(source)

    def share(kind: str) -> Share | None:
        return _edgetpu_share(model) if kind == "edgetpu" else None

    def expect(spec: DelegateSpec) -> Expected | None:
        if cost_table is None:
            return None
        from pathlib import Path

        from edgekit_convert.assign.expected import expected

        return expected(model, spec, Path(cost_table))

    return make_plan(
        model,
        find_target(device),
        threads=threads,
        measure=measure,
        require=require,
        share=share,
        expect=expect,
        progress=progress or (lambda step, done, total: None),
    )


def _edgetpu_share(model: ModelFile) -> Share | None:
    """How much of a model that was not compiled the Edge TPU would take, by its compiler's rules."""
    from edgekit_convert import edgetpu
    from edgekit_profiles.trying import Share

    report = edgetpu.check(model)
    if report.refused is not None:
        return Share(0.0, None, f"the rules of the Edge TPU compiler: {report.refused}")
    return Share(report.share_ops, report.share_macs, f"the rules of the Edge TPU compiler: {report.summary()}")


def convert(
    source: Any,
    calibration: Any,
    *,
    output: str | os.PathLike[str] | None = None,
    recipe: str = "auto",
    effort: str = "default",
    io: str | None = None,
    normalize: Sequence[float] | str | None = None,
    resize: tuple[int, int] | int | str | None = None,
    color: str | None = None,
    crop: tuple[int, int] | str | None = None,
    preprocessing: Mapping[str, Preprocessing] | None = None,
    labels: Sequence[str] | None = None,
    device: str | None = None,
    delegate_rules: bool = True,
    verify: Any = None,
    metric: Any = "accuracy",
    min_agreement: float | None = None,
    max_drop: float | None = None,
    min_sqnr: float | None = None,
    keep_failing: bool = False,
    cost_table: str | os.PathLike[str] | None = None,
    runtime_python: str | os.PathLike[str] | None = None,
    statistics: str | os.PathLike[str] | None = None,
    samples: int = 1000,
    allow_custom: Sequence[str] = (),
    signature: str | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    batch: int | None = None,
    model: Callable[[], Any] | str | None = None,
    channels_last: bool | None = None,
    trust_source: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Conversion:
    """Turn a trained model into an int8 ``.tflite`` model and prove it against the float model.

    Args:
        source: a ``.keras``, ``.h5``, ``.onnx``, ``.pt2`` or float ``.tflite`` file, a PyTorch state dict (with ``model``), a SavedModel
            folder, or a Keras or PyTorch model in memory.
        calibration: representative data: an array ``[n, …]``, a dict of them by input name, a list of
            samples, a function that returns a new iterator, or the command line's text form
            (``file.npy``, ``file.npz:key``, ``file.npz:x=key,y=key``, a folder of images, ``module:function``).
        output: where to write the model; ``None`` leaves that to ``Conversion.save``.
        recipe: ``auto``: int8 activations and weights wherever that is fastest on the target's delegate, by measurement; what
            stays in float is named with its reason. ``int8``: every operator in int8; fails when one has no such form, and
            tells what it costs. ``int16x8``: int16 activations, int8 weights. ``dynamic``: int8 weights,
            activations quantised at run time. ``float16`` and ``weights``: weights stored as float16 or int8, computing in
            float.
        effort: ``fast``: true minimum and maximum ranges and bias correction; ``default``: channel equalisation, range search
            and streaming bias correction as well; ``high``: weight rounding as well (minutes). Each is kept only where
            held-out calibration data are better off with it.
        io: the file's input and output type: ``int8``, ``uint8``, ``int16`` or ``float32``; ``None`` for the recipe's own
            (int8, int16 for ``int16x8``, float32 for the rest).
        normalize: ``(mean, std)``, or one mean and one standard deviation for each channel
            (``m1, m2, m3, s1, s2, s3``); ``"none"`` says that the raw values are what the model was trained on.
        resize: ``(width, height)`` to resize images to; one number for the shorter side.
        color: ``rgb`` or ``bgr``: the order that the model was trained on.
        crop: ``(width, height)`` to cut out of the centre after the resize.
        preprocessing: by input name, instead of the four options above.
        labels: class names, in output order.
        device: a profile id: the device that the model is for; ``None`` for this machine. For one with an Edge TPU the operators
            are checked against what its compiler maps, and the model is compiled where that is installed.
        delegate_rules: whether operators that the target's delegate leaves outside in int8 may be respelled as ones that it takes.
        verify: data like ``calibration``, with labels where there are some, that the proof runs on as well.
        metric: ``accuracy``, or a function ``(outputs, labels) -> float``, or ``module:function``.
        min_agreement: a gate: the least share of samples with the same top class as the float model (0.99, or 99 for per cent).
            Gates are decided on the ``verify`` data, or on held-out calibration data where there are none. When plain int8
            misses one under ``auto``, the cheapest set of operators goes to int16 or float until it is met.
        max_drop: a gate: the largest loss of ``metric``, in points for accuracy; needs labels.
        min_sqnr: a gate: the least signal to noise of any output, in dB.
        keep_failing: return (and write) a model that fails a gate or check as well; ``report.passed`` tells.
        cost_table: a JSON file of measured operator times: read where it exists, extended and written, so that a conversion
            that chose by time can be repeated.
        runtime_python: a Python whose runtime the target has, such as tflite-runtime: times are measured in it.
        statistics: a file of activation statistics: read where it exists, else written after measuring.
        samples: use at most this many samples of each data set, spread evenly.
        allow_custom: names of custom operators that may stay in the model.
        signature: of a SavedModel or ``.tflite`` with several; ``None`` for the default one.
        shapes: fixed input shapes by input name, the batch first (or one shape for the only input); ``None`` for what the
            model and the calibration data say.
        batch: samples in one run of a second signature, ``batch_N``.
        model: for files that hold weights alone: a function without arguments that makes the model, or ``module:function``.
        channels_last: whether inputs that the original takes with the channels first come out with the channels last; ``None``
            for the frontend's own choice.
        trust_source: whether code that a model file carries may be run.
        overwrite: replace ``output`` when it exists.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The ``Conversion``: the model file, the proof, and what was done.

    Raises:
        EdgekitError: the source, the data or an option is not usable, or the result fails a gate.
    """
    from pathlib import Path

    import edgekit_convert
    from edgekit_convert.frontends import Opening
    from edgekit_convert.frontends.shapes import fixed_shapes
    from edgekit_convert.options import Demands, Files, Reading, Recipe, Target

    gates = edgekit_convert.Gates.from_options(min_agreement, max_drop, min_sqnr)
    python = os.fspath(runtime_python) if runtime_python is not None else None
    target = Target(choose(None, device=device), _elsewhere(device), python, _has_edgetpu(device))
    return edgekit_convert.convert(
        source,
        calibration,
        recipe=Recipe.from_options(recipe, effort, io, delegate_rules=delegate_rules),
        reading=Reading(normalize, resize, color, crop, preprocessing, samples),
        target=target,
        demands=Demands(metric, gates, tuple(allow_custom), keep_failing),
        files=Files(
            output=Path(output) if output is not None else None,
            overwrite=overwrite,
            cost_table=Path(cost_table) if cost_table is not None else None,
            statistics=Path(statistics) if statistics is not None else None,
        ),
        opening=Opening(signature, fixed_shapes(shapes), batch, trust_source, model, channels_last),
        verify=verify,
        labels=labels,
        progress=progress,
    )


def _elsewhere(device: str | None) -> str | None:
    """The name of a device that is not this machine."""
    if device is None:
        return None
    import edgekit_profiles

    target = edgekit_profiles.find_target(device)
    return None if target.here else target.name


def _has_edgetpu(device: str | None) -> bool:
    """Whether a device was named that is or has an Edge TPU of its own."""
    if device is None:
        return False
    import edgekit_profiles

    return any(item.kind == "edgetpu" for item in edgekit_profiles.load_profile(device).accelerators)


def verify(
    float_model: Any,
    int8_model: str | os.PathLike[str] | bytes,
    data: Any,
    *,
    normalize: Sequence[float] | str | None = None,
    resize: tuple[int, int] | int | str | None = None,
    color: str | None = None,
    crop: tuple[int, int] | str | None = None,
    metric: Any = "accuracy",
    samples: int = 1000,
    device: str | None = None,
    per_layer: bool = False,
    signature: str | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    model: Callable[[], Any] | str | None = None,
    channels_last: bool | None = None,
    trust_source: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> VerifyReport:
    """Compare a quantised model with its float original, whoever made them.

    Args:
        float_model: any source that ``convert`` takes.
        int8_model: a ``.tflite`` file or its bytes.
        data: what to compare on, as ``convert`` takes it; with labels the task's metric is measured as well.
        normalize: see ``convert``, as the next two; where none is given, the preprocessing of the int8 model's manifest.
        resize: see ``convert``.
        color: see ``convert``.
        crop: see ``convert``.
        metric: see ``convert``.
        samples: use at most this many samples.
        device: a profile id, whose delegate runs both; ``None`` for this machine.
        per_layer: compare each tensor inside the network as well.
        signature: how the float model is opened: see ``convert``, as the next four.
        shapes: see ``convert``.
        model: see ``convert``.
        channels_last: see ``convert``.
        trust_source: see ``convert``.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The report; its ``on["data"]`` has agreement, SQNR and metric with 95 % intervals, and its ``layers`` the
        network tensor by tensor where that was asked for.

    Raises:
        EdgekitError: a model, the data or an option is not usable, or the two are not the same network.
    """
    import edgekit_convert
    from edgekit_convert.frontends import Opening
    from edgekit_convert.frontends.shapes import fixed_shapes

    return edgekit_convert.verify_pair(
        float_model,
        int8_model,
        data,
        normalize=normalize,
        resize=resize,
        color=color,
        crop=crop,
        metric=metric,
        samples=samples,
        choice=choose(None, device=device),
        per_layer=per_layer,
        opening=Opening(signature, fixed_shapes(shapes), None, trust_source, model, channels_last),
        progress=progress,
    )


def verify_golden(
    source: str | os.PathLike[str] | bytes | ModelFile,
    *,
    delegate: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
) -> GoldenReport:
    """Let a model check itself here: run the golden inputs in its file and compare with what came out at conversion.

    Args:
        source: a ``.tflite`` file that edgekit wrote, its bytes, or a ``ModelFile``.
        delegate: see ``load``, as the next three.
        device: see ``load``.
        threads: see ``load``.
        engine: see ``load``.

    Returns:
        The report: each output's largest difference, SQNR and tolerance; ``passed`` says whether all are within.

    Raises:
        EdgekitError: the file has no golden data or is damaged, or the delegate or the interpreter is not usable.
    """
    from edgekit import golden

    model = source if isinstance(source, ModelFile) else ModelFile.read(source)
    return golden.check(model, choose(model, delegate=delegate, device=device, threads=threads), engine=engine)


def delegate_report(
    source: str | os.PathLike[str] | bytes | ModelFile,
    *,
    delegate: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    measure: bool = False,
    runtime_python: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DelegateReport:
    """Find out what a delegate takes of a model, why it leaves the other operators outside, and what these cost.

    Everything is learned from the runtime itself, with small models; what was learned is remembered in the user's cache folder.

    Args:
        source: a ``.tflite`` file, its bytes, or a ``ModelFile``.
        delegate: see ``load``, as the next two.
        device: see ``load``; of a device that is not this machine the report is a prediction.
        threads: see ``load``.
        measure: whether to measure what the operators outside take, which lasts seconds; not for another device or runtime.
        runtime_python: another Python, whose runtime is asked: tflite-runtime where it has that, else LiteRT.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The report: ``partitions``, ``outside`` with a reason and a time for each operator, ``summary()``.

    Raises:
        EdgekitError: the model or the delegate is not usable, the runtime does not load the model, or ai-edge-litert, which takes
            models apart, is not installed.
    """
    from edgekit_convert.delegate.learned import Capabilities
    from edgekit_convert.delegate.report import delegate_report as report

    model = source if isinstance(source, ModelFile) else ModelFile.read(source)
    spec = choose(model, delegate=delegate, device=device, threads=threads).spec
    return report(
        model,
        spec,
        measure=measure,
        learned=Capabilities(spec.kind, python=runtime_python) if runtime_python is not None else None,
        target=_elsewhere(device),
        progress=progress or (lambda step, done, total: None),
    )

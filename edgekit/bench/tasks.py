"""``Task``: one case and what came of it so far; each launch is a process that answers on its standard output."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from edgekit.bench.cases import CaseResult
from edgekit.bench.conditions import Sampler
from edgekit.bench.inputs import native_samples, save_samples
from edgekit.bench.known_pace import KnownPace
from edgekit.bench.launch import OFFLINE, SERVER, SINGLE_STREAM, Case, Launch
from edgekit.bench.pace import full_pace_ns
from edgekit.bench.statistics import launches_needed
from edgekit.errors import DataError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing

Progress = Callable[[str, int, int], None]

#: Of the random inputs, and of the arrivals in the first launch.
SEED = 0
#: Launches of a case without a number, and how many there may be.
LEAST_LAUNCHES, MOST_LAUNCHES = 5, 40
#: Without a budget each case has so long.
BUDGET_S = 60.0
#: A search of the server scenario alone takes half a minute, and each launch that refutes its rate calls for four others.
SERVER_BUDGET_S = 180.0
#: What a rate that a further launch refuted is multiplied with.
_LOWER = 0.95
_QUOTED_LINES = 6
#: From fewer times of the fixed piece of work nothing is learned for later benchmarks.
_FEWEST_TIMES = 100


@dataclasses.dataclass(frozen=True)
class Method:
    """How cases are measured.

    Attributes:
        runs: see ``benchmark``, as the others.
        warmup: see there.
        launches: see there.
        target: see there.
        budget_s: see there.
        data: see there.
        data_name: see there.
        preprocessing: see there.
        least_s: the least time of a trial or an offline launch.
        meter_csv: see ``benchmark``.
        root: the root folder of the file system that the conditions are read from; a tree recorded on another machine in its place.
    """

    runs: int | None
    warmup: int | None
    launches: int | None
    target: float
    budget_s: float | None
    data: Any
    data_name: str
    preprocessing: Preprocessing | None
    least_s: float
    meter_csv: str | None = None
    root: str = "/"

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            OptionError: the first value that does not.
        """
        for name, value, lowest in (("runs", self.runs, 1), ("warmup", self.warmup, 0), ("launches", self.launches, 1)):
            if value is not None and value < lowest:
                raise OptionError(f"{name} is {value}: at least {lowest} was expected.")
        if not 0 < self.target < 1:
            raise OptionError(f"a target of {self.target}: a share above 0 and below 1 was expected, such as 0.03.")
        for what, seconds in (("a budget", self.budget_s), ("a least time", self.least_s)):
            if seconds is not None and not seconds > 0:
                raise OptionError(f"{what} of {seconds} s: more than 0 was expected.")

    @property
    def least(self) -> int:
        """Launches of each case that are sure."""
        return self.launches or LEAST_LAUNCHES

    def budget(self, tasks: Sequence[Task]) -> float:
        """After so many seconds no launch begins that is not sure.

        Args:
            tasks: all that there are.
        """
        if self.budget_s is not None:
            return self.budget_s
        return sum(SERVER_BUDGET_S if task.case.scenario == SERVER else BUDGET_S for task in tasks)


class Task:
    """One case and what came of it so far.

    Args:
        case: what to measure.
        method: how.
        path: the model's file.
        samples: the file of real samples, where they were made ready before; see ``prepare``.
        error: why they could not be.

    Attributes:
        case: as it was given.
        launches: those that ended well.
        error: why one did not, or ``None``.
        rounds: how many were begun.
    """

    def __init__(
        self, case: Case, method: Method, path: Path, samples: Path | None = None, error: str | None = None
    ) -> None:
        self.launches: list[Launch] = []
        self.error = error
        self.rounds = 0
        self.case = case
        self._method = method
        self._path = path
        self._samples = samples
        self._rate = case.rate_per_s
        self._confirmed = 0
        self._known_pace_ns: float | None = None

    def prepare(self, model: ModelFile, models: Sequence[ModelFile], path: Path) -> None:
        """Write the real samples as this case's model takes them.

        Args:
            model: the case's.
            models: all that are measured, in whose manifests the preprocessing may be.
            path: where to write.

        Raises:
            DataError: they do not fit the model.
        """
        try:
            samples = native_samples(
                model,
                self._method.data,
                batch=self.case.batch,
                preprocessing=_preprocessing(model, models, self._method.preprocessing),
            )
        except OptionError as error:  # the model has no room for this batch: a row that fails, as with random inputs
            self.error = str(error)
            return
        save_samples(path, samples)
        self._samples = path

    def recall(self, known: KnownPace) -> None:
        """Take over the full pace that earlier benchmarks found.

        Args:
            known: what they did.
        """
        if self.case.scenario == SINGLE_STREAM:
            self._known_pace_ns = known.of(self.case)

    @property
    def own_pace_ns(self) -> float | None:
        """The full pace beside its own runs, for later benchmarks; ``None`` where too few times tell it, and beside several workers."""
        times = [value for launch in self.launches for value in launch.pace_ns]
        return full_pace_ns(times) if len(times) >= _FEWEST_TIMES and self.case.scenario == SINGLE_STREAM else None

    def wants_more(self, number: int) -> bool:
        """Whether another launch is due.

        Args:
            number: the round, from 0.
        """
        if self.error is not None:
            return False
        if number < self._method.least:
            return self.case.scenario != SERVER or self.rounds == 0 or self._rate is not None
        if self._method.launches is not None and not self._searches:
            return False
        return number < MOST_LAUNCHES and self.needed() > len(self.launches)

    def needed(self) -> int:
        """How many launches it will about take."""
        least = self._method.least
        if self._searches:
            # The first one searches; the others must confirm.
            missing = least - 1 - self._confirmed if self._rate is not None or not self.launches else 0
            return max(self.rounds + missing, 1)
        if self.case.scenario == SERVER:
            return least + (0 if self._method.launches is not None else self.result().disturbed_launches)
        if self._method.launches is not None or len(self.launches) < 3:
            return least
        result = self.result()
        values = result.steady_medians_ns
        if self.case.scenario == OFFLINE:
            values = tuple(value for launch in self.launches if (value := launch.samples_per_s))
        if not values:
            return least
        if result.lacks_full_pace:
            return max(least, len(self.launches) + 1)
        # Of launches with enough runs at full pace, others are needed besides.
        return max(least, math.ceil(launches_needed(values, self._method.target) * len(self.launches) / len(values)))

    @property
    def _searches(self) -> bool:
        return self.case.scenario == SERVER and self.case.rate_per_s is None

    def result(self) -> CaseResult:
        """What was measured so far."""
        return CaseResult(self.case, tuple(self.launches), self.error, known_pace_ns=self._known_pace_ns)

    def launch(self, number: int, progress: Progress) -> None:
        """Run one process; after a failure the case is left alone.

        Args:
            number: the round, from 0.
            progress: told of what takes long inside a launch.
        """
        self.rounds += 1
        # Each launch of the server scenario gets other arrivals, so that a rate holds for more than one row of them.
        seed = SEED + number if self.case.scenario == SERVER else SEED
        request = {
            "model": str(self._path), "case": vars(dataclasses.replace(self.case, rate_per_s=self._rate)),
            "runs": self._method.runs, "warmup": self._method.warmup, "seed": seed,
            "samples": None if self._samples is None else str(self._samples), "least_s": self._method.least_s,
            "confirms": self._searches, "meter_csv": self._method.meter_csv, "full_ns": self.result().full_pace_ns or self._known_pace_ns,
        }  # fmt: skip
        with Sampler(self._method.root) as sampler:
            answer, self.error = ask_worker(request, progress)
        if answer is None:
            return
        launch = dataclasses.replace(Launch.from_json(answer), conditions=tuple(sampler.samples))
        self.launches.append(launch)
        if self._searches:
            self._learn(launch)

    def _learn(self, launch: Launch) -> None:
        """Take the rate that the search found, or lower it where another launch refuted it; one that was disturbed says nothing."""
        if self._rate is None:
            valid = [trial.rate_per_s for trial in launch.trials if trial.valid]
            self._rate = max(valid, default=None)
        elif all(trial.valid for trial in launch.trials):
            self._confirmed += 1
        elif any(trial.refutes for trial in launch.trials):
            self._rate, self._confirmed = self._rate * _LOWER, 0


def _preprocessing(
    model: ModelFile, models: Sequence[ModelFile], given: Preprocessing | None
) -> dict[str, Preprocessing] | None:
    """By input name: what was given, else what the model's own manifest says, else what another one's says of a single input.

    Raises:
        DataError: it was given, and the model has several inputs that it could be for.
    """
    if given is None and model.manifest is not None:
        return None
    if given is None:
        others = [item.manifest.preprocessing for item in models if item.manifest is not None]
        alone = len(model.inputs) == 1
        given = next((next(iter(item.values())) for item in others if len(item) == 1 and alone), None)
    if given is None:
        return {}
    images = [spec for spec in model.inputs if len(spec.shape) == 4] or list(model.inputs)
    if len(images) != 1:
        names = ", ".join(spec.name for spec in model.inputs)
        raise DataError(f"preprocessing is for one input, and the model has {names}: give data that need none.")
    return {images[0].name: given}


def ask_worker(request: Mapping[str, Any], progress: Progress) -> tuple[dict[str, Any] | None, str | None]:
    """Have a child process answer.

    Args:
        request: see ``edgekit.bench.worker``.
        progress: told of the child's steps.

    Returns:
        The launch, or the error; the other one is ``None``.
    """
    import edgekit

    # `-m` puts the working folder first on the child's path: the one that this edgekit comes from, and not
    # the user's, whose files may have the names of modules.
    home = Path(edgekit.__file__).resolve().parent.parent
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "edgekit.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=home,
            env={**os.environ, "PYTHONPATH": path},
        )
        with child:
            try:
                answer = _talk(child, json.dumps(request).encode(), progress)
                child.wait()
            except BaseException:  # an interrupt too: nobody would read the rest
                child.kill()
                raise
        stderr.seek(0)
        said = stderr.read()
    if answer is None:
        return None, _crash(child.returncode, said)
    if "error" in answer:
        return None, str(answer["error"])
    return answer, None


def _talk(child: subprocess.Popen[bytes], request: bytes, progress: Progress) -> dict[str, Any] | None:
    """Give the child its request, pass its progress on, and return its last answer; ``None`` when it gave none."""
    to_child: IO[bytes] | None = child.stdin
    from_child: IO[bytes] | None = child.stdout
    assert to_child is not None
    assert from_child is not None
    try:
        to_child.write(request)
        to_child.close()
    except BrokenPipeError:  # it ended before it read: its exit tells why
        pass
    for line in from_child:
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            return None
        if "progress" not in answer:
            return answer
        step, done, total = answer["progress"]
        progress(str(step), int(done), int(total))
    return None


def _crash(returncode: int, stderr: bytes) -> str:
    """What to say of a child that ended without an answer."""
    if returncode < 0:
        try:
            how = f"was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            how = f"was killed by signal {-returncode}"
    else:
        how = f"ended with exit code {returncode}"
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    quoted = " | ".join(lines[-_QUOTED_LINES:]) or "nothing"
    return f"the process that measured {how} and gave no result. Its last words: {quoted}"

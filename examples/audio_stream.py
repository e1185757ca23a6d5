"""Keyword spotting on a stream of sound: windows that slide over it, each run as soon as it is complete.

The sound is a ``.wav`` file (16 bit), read block by block as a microphone gives it; ``.npy`` and ``.npz`` files hold features
that are ready for the model, one sample in each row. No window is dropped (policy ``all``), and windows that wait are run together
where the model takes batches. One line of JSON for each change of what is heard, and at the end what became of all windows::

    python audio_stream.py --demo
    python audio_stream.py --model keywords.tflite --features keyword_spotting.npz:test

The features of a ``.wav`` file are logarithmic band energies, a stand-in: a model wants those that it was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edgekit

#: A frame of sound, and the step from frame to frame; in samples at 16 kHz 32 ms and 20 ms.
FRAME, STEP = 512, 320


def centres_hz(bands: int, rate: int) -> Any:
    """The middle frequencies of bands that are equally wide on a logarithmic scale, from 100 Hz to 7/16 of the rate."""
    edges = np.geomspace(100.0, rate * 7 / 16, bands + 1)
    return np.sqrt(edges[:-1] * edges[1:])


def energies(samples: Any, bands: int, rate: int) -> Any:
    """The energy of each band in one frame of sound: 0 below -60 dB, 1 at full loudness."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    power /= (len(samples) / 4) ** 2  # a sine of amplitude 1 peaks at 1
    edges = np.geomspace(100.0, rate * 7 / 16, bands + 1)
    place = np.searchsorted(edges, np.fft.rfftfreq(len(samples), 1 / rate)) - 1
    inside = (place >= 0) & (place < bands)
    sums = np.bincount(place[inside], weights=power[inside], minlength=bands)
    return np.clip(1 + np.log10(np.maximum(sums, 1e-9)) / 6, 0, 1).astype(np.float32)


def blocks(path: Path, count: int) -> Iterator[tuple[Any, int]]:
    """A .wav file in blocks of so many samples, with the rate; values -1 to 1, of the first channel."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise edgekit.DataError(f"{path} has {8 * file.getsampwidth()} bits, 16 were expected.")
            while len(data := file.readframes(count)) == count * 2 * file.getnchannels():
                samples = np.frombuffer(data, "<i2").reshape(count, file.getnchannels())[:, 0]
                yield samples.astype(np.float32) / 32768, file.getframerate()
    except (OSError, EOFError, wave.Error) as error:
        raise edgekit.DataError(f"cannot read {path}: {error}.") from error


def windows(path: Path, frames: int, bands: int, hop: int) -> Iterator[Any]:
    """Features ``[frames, bands]`` of the last so many frames of sound, a new one after every ``hop`` steps."""
    sound = np.zeros(FRAME, np.float32)
    features = np.zeros((frames, bands), np.float32)
    for number, (block, rate) in enumerate(blocks(path, STEP), 1):
        sound = np.concatenate([sound[STEP:], block])
        features = np.concatenate([features[1:], energies(sound, bands, rate)[None]])
        if number % hop == 0:
            yield features


def from_features(text: str, shape: tuple[int, ...]) -> Iterator[Any]:
    """The rows of FILE.npy or FILE.npz:KEY, in the model's shape."""
    name, _, key = text.partition(":")
    try:
        found = np.load(name)
        rows = found[key] if key else found
    except (OSError, ValueError, KeyError) as error:
        raise edgekit.DataError(f"cannot read {text}: {error}.") from error
    for row in rows:
        yield np.asarray(row, np.float32).reshape(shape)


def write_demo(path: Path, rate: int = 16_000) -> None:
    """Half a second each of quiet, a low tone, quiet, a middle one, quiet, and a high one."""
    from demo_models import TONES

    seconds = np.arange(rate // 2) / rate
    quiet, *tones = [0.5 * np.sin(2 * np.pi * hz * seconds) for hz in TONES.values()]
    sound = np.concatenate([part for tone in tones for part in (quiet, tone)])
    sound += np.random.default_rng(0).normal(0, 0.001, len(sound))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def main() -> None:
    """Run the stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="a classifier of windows [frames, bands] or [frames, bands, 1]")
    what.add_argument("--demo", action="store_true", help="three tones, and a tiny model that tells them apart")
    sound = parser.add_mutually_exclusive_group()
    sound.add_argument("--wav", type=Path, help="a sound file")
    sound.add_argument("--features", metavar="FILE.npy|FILE.npz:KEY", help="features, one sample in each row")
    parser.add_argument("--hop", type=int, default=2, help="a window after every so many steps of 20 ms")
    parser.add_argument("--max-wait-ms", type=float, help="run windows together, waiting at most this long for more")
    arguments = parser.parse_args()
    if not arguments.demo and arguments.wav is None and arguments.features is None:
        parser.error("give --wav or --features with --model")

    with tempfile.TemporaryDirectory() as folder:
        path, names = arguments.wav, ()
        if arguments.demo:
            from demo_models import TONES, loudest_tone

            content: Any = loudest_tone(10, centres_hz(24, 16_000))
            names = tuple(TONES)
            if path is None:
                path = Path(folder) / "tones.wav"
                write_demo(path)
        else:
            content = edgekit.ModelFile.read(arguments.model)
            names = content.manifest.labels if content.manifest is not None else ()
        with edgekit.load(content, delegate="xnnpack") as model:
            shape = model.inputs[0].shape[1:]
            if arguments.features is not None:
                source = from_features(arguments.features, shape)
            elif len(shape) in (2, 3) and (len(shape) == 2 or shape[2] == 1):
                source = (window.reshape(shape) for window in windows(path, shape[0], shape[1], arguments.hop))
            else:
                raise edgekit.DataError(
                    f"this model takes {list(shape)}: windows [frames, bands] were expected. Use --features."
                )
            listen(source, model, names, arguments.max_wait_ms)


def listen(source: Iterator[Any], model: Any, names: tuple[str, ...], max_wait_ms: float | None) -> None:
    """Print what is heard."""
    heard = None
    with edgekit.stream(source, model, policy="all", max_queue=32, max_wait_ms=max_wait_ms) as results:
        for result in results:
            scores = result.output[0]
            best = int(np.argmax(scores))
            if best != heard:
                heard = best
                line = {
                    "window": result.sequence,
                    "class": names[best] if best < len(names) else best,
                    "score": round(float(scores[best]), 4),
                    "age_ms": round(result.age_ns / 1e6, 3),
                }
                print(json.dumps(line), flush=True)
    print(json.dumps({"counts": results.counts._asdict()}))


if __name__ == "__main__":
    try:
        main()
    except edgekit.EdgekitError as error:
        sys.exit(f"error: {error}")

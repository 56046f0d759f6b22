"""The device's commands: ``python -m yolo_slim.runtime COMMAND BUNDLE``.

Exit codes: 0 done, 1 the answer is no (see each command), 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from yolo_slim.child_process import ended_by_sigterm
from yolo_slim.errors import DISK_IS_FULL, EXIT_BAD_INPUT, EXIT_FAIL, EXIT_OK, SlimError, explain_os_error
from yolo_slim.files import read_json, require_place, write_json
from yolo_slim.runtime.arguments import make_parser, require_answer, require_inputs
from yolo_slim.system_libraries import explain_import

if TYPE_CHECKING:
    from yolo_slim.backends import Options
    from yolo_slim.runtime.sources import Skipped

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's problem is one message on standard error."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    args = make_parser(COMMANDS).parse_args(typed, argparse.Namespace(typed=typed))
    # OpenCV and FFmpeg would print warnings of their own between ours. Read when cv2 is imported, so set before.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        require_inputs(args)
        require_answer(args)
        with ended_by_sigterm():
            return int(args.run(args))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SlimError as error:
        return _report(error)
    except ImportError as error:
        explained = explain_import(error)
        if explained is None:
            raise
        return _report(explained)
    except OSError as error:
        if error.filename is None and error.errno not in DISK_IS_FULL:
            raise  # not about a path: a fault of ours, which needs its traceback
        return _report(_explain_refusal(error, _written(args)))


def doctor(args: argparse.Namespace) -> int:
    """Show this machine and its runtimes; with BUNDLE, whether it runs as required. Exit code 1: it doesn't."""
    # Imported here, as in every command: doctor must answer where OpenCV or a runtime is missing.
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime.doctor import examine

    report = examine(open_bundle(args.bundle) if args.bundle else None)
    _answer(args, report.to_json(), report.as_text())
    return EXIT_OK if report.is_healthy else EXIT_FAIL


def build(args: argparse.Namespace) -> int:
    """Build the TensorRT engine of a bundle; other runtimes need none."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime.build_engine import build_engine

    report = build_engine(open_bundle(args.bundle), _progress_line(args), force=args.force)
    _answer(args, report.to_json(), report.as_text())
    return EXIT_OK


def check(args: argparse.Namespace) -> int:
    """Compare the detections on the bundle's own images with those of the workstation. Exit code 1: they differ."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime import selfcheck

    report = selfcheck.check(open_bundle(args.bundle), args.threads, _options(args))
    _answer(args, report.to_json(), report.as_text())
    return EXIT_OK if report.is_passed else EXIT_FAIL


def bench(args: argparse.Namespace) -> int:
    """Measure the bundle's speed. Exit code 1: the timing doesn't count: the device throttled, was too hot or busy."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime import bench as timing
    from yolo_slim.runtime import breakdown
    from yolo_slim.runtime.bench_text import as_text, progress
    from yolo_slim.runtime.cold_start import Stopwatch
    from yolo_slim.runtime.detector import Detector
    from yolo_slim.runtime.sources import Skipped
    from yolo_slim.runtime.sustained import Sustained, sustain

    watch, skipped, seconds = Stopwatch(), Skipped(), args.minutes * 60
    bundle = watch.load(lambda: open_bundle(args.bundle))
    images = timing.bench_images(bundle, args.images, skipped)
    _warn(args, skipped)
    line = _progress_line(args)
    with watch.load(lambda: Detector(bundle, args.threads, _options(args))) as detector:
        cold_start = watch.first_frame(detector.detect, images[0]) if images else None
        limits = {"min_queries": args.queries, "min_seconds": args.seconds, "max_celsius": args.max_celsius}
        result = timing.repeated(lambda: timing.bench(detector, images, **limits), args.repeat)
        if seconds:

            def run_on() -> Sustained:
                return sustain(detector, images, seconds, on_point=lambda point: line(progress(point, seconds)))

            result = result.with_sustained(timing.repeated(run_on, args.repeat))
        # Last: a second session takes memory that the timing must not count.
        divided = breakdown.measure(detector, images[0]) if args.breakdown else None
    result = replace(result, cold_start=cold_start, breakdown=divided)
    _answer(args, result.to_json(), as_text(result))
    return EXIT_OK if result.is_valid else EXIT_FAIL


def tune(args: argparse.Namespace) -> int:
    """Find the fastest threads and runtime options on this machine and keep them. Exit code 1: the device was busy."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime import tuned
    from yolo_slim.runtime.tune import tune as search
    from yolo_slim.runtime.tune_process import Processes

    bundle = open_bundle(args.bundle)
    kept = tuned.load(bundle)
    if kept.setting and not args.force:
        value = {**read_json(bundle.folder / tuned.FILE), "kept": True}
        _answer(args, value, f"tuned already: {kept}; --force tunes again")
        return EXIT_OK
    run = Processes(bundle=bundle, images=args.images, seconds=args.seconds)
    report = search(bundle, run.time_once, run.is_right, _progress_line(args))
    _answer(args, report.to_json(), report.as_text())
    return EXIT_FAIL if report.invalid_reasons else EXIT_OK


def detect(args: argparse.Namespace) -> int:
    """Write annotated images or an annotated video, and the detections as JSON. Exit code 1: some can't be read."""
    from yolo_slim.runtime.annotate import annotate, new_folder
    from yolo_slim.runtime.detector import Detector
    from yolo_slim.runtime.infer import detections_to_json
    from yolo_slim.runtime.sources import Skipped

    options = {"conf": args.conf, "iou": args.iou, "convert_channels": args.convert_channels}
    skipped = Skipped()
    with Detector(args.bundle, args.threads) as detector, new_folder(args.out) as out:
        images = []
        for image in annotate(detector, args.source, out, skipped, **options):
            images.append(image)
            _say(args, f"{image.file}: {len(image.detections)} detections, {image.times.total_ms:.1f} ms")
        thresholds = detector.thresholds(args.conf, args.iou)
        value = {**detections_to_json(images, detector, "predict", thresholds), **asdict(skipped)}
        write_json(out / "detections.json", value)
    found = sum(len(image.detections) for image in images)
    _answer(args, value, f"{found} detections in {len(images)} frames, written to {out}")
    _warn(args, skipped)
    return EXIT_FAIL if skipped.unreadable else EXIT_OK


def infer(args: argparse.Namespace) -> int:
    """Write the detections of many images to one file. The workstation computes mAP from it."""
    from yolo_slim.runtime.detector import Detector
    from yolo_slim.runtime.folders import find_images
    from yolo_slim.runtime.infer import infer_folder, save_detections
    from yolo_slim.runtime.sources import Skipped
    from yolo_slim.runtime.video import is_video

    if is_video(args.source):
        raise SlimError(f"infer takes images, not a video: {args.source}", remedy="Use detect for a video.")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    require_place(args.out, "--out")
    root = args.source if args.source.is_dir() else args.source.parent
    found = find_images(args.source)
    _warn(args, Skipped(left_out=list(found.left_out)))
    with Detector(args.bundle, args.threads) as detector:
        images = infer_folder(detector, found.images, args.mode, root, candidates=args.candidates)
        save_detections(args.out, images, detector, args.mode)
    _say(args, f"{sum(len(image.detections) for image in images)} detections in {len(images)} images: {args.out}")
    return EXIT_OK


def pair(args: argparse.Namespace) -> int:
    """Time the inference of two bundles round by round, in one process. Exit code 1: the timing doesn't count."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime.bench_text import invalid_lines
    from yolo_slim.runtime.paired import pair_bundles
    from yolo_slim.runtime.sources import Skipped, frames

    before, after, skipped = open_bundle(args.bundle), open_bundle(args.other), Skipped()
    images = (image for _, image in frames(args.images, skipped, convert_channels=True))
    limits = {"rounds": args.rounds, "frames": args.frames, "max_celsius": args.max_celsius}
    found = pair_bundles(before, after, images, **limits)
    _warn(args, skipped)
    gains = sorted(found.gains.tolist())
    text = f"{median(gains):+.3f} ms saved per frame, {gains[0]:+.3f} to {gains[-1]:+.3f} in single rounds"
    _answer(args, found.to_json(), "\n".join([text, *invalid_lines(found.invalid_reasons)]))
    return EXIT_FAIL if found.invalid_reasons else EXIT_OK


def layers(args: argparse.Namespace) -> int:
    """Time single layers, for the workstation's latency table. Exit code 1: the timing doesn't count."""
    from yolo_slim.runtime.bench_text import invalid_lines
    from yolo_slim.runtime.layers import time_layers

    found = time_layers(args.file, max_celsius=args.max_celsius)
    lines = [f"{ms:8.3f} ms  {name}" for name, ms in found.ms.items()]
    _answer(args, found.to_json(), "\n".join([*lines, *invalid_lines(found.invalid_reasons)]))
    return EXIT_FAIL if found.invalid_reasons else EXIT_OK


def camera(args: argparse.Namespace) -> int:
    """Show a live camera, stream, video or scene: a page in the browser, outputs, counts."""
    from yolo_slim.runtime.camera.command import run

    return run(args, args.typed)


COMMANDS = (doctor, build, check, tune, bench, detect, infer, pair, layers, camera)
"""Name and docstring of each are the command's name and help."""


def _options(args: argparse.Namespace) -> Options | None:
    """The options that were given, none where the tuned ones are left out; None: the tuned ones."""
    from yolo_slim.runtime.tuned import parse_options

    return parse_options(args.option) if args.option or args.untuned else None


def _answer(args: argparse.Namespace, value: object, text: str) -> None:
    """Print the text, and write the JSON value where it was asked for; ``--json -`` prints that instead."""
    if args.json == "-":
        print(json.dumps(value, indent=2))
        return
    if not args.quiet:
        print(text)
    if not args.json:
        return
    try:
        write_json(Path(args.json), value)
    except OSError:
        # Not lost with the file: it may have been measured for half an hour.
        print(json.dumps(value, indent=2))
        raise


def _progress_line(args: argparse.Namespace) -> Callable[[str], object]:
    """A function that shows one changing line, on a terminal only."""

    def show(text: str) -> None:
        if sys.stderr.isatty() and not args.quiet:
            print(f"\r{text[:78]:<78}\r", end="", file=sys.stderr, flush=True)

    return show


def _say(args: argparse.Namespace, text: str) -> None:
    """Print a line for people unless standard output is JSON."""
    # infer has no --json: its answer is the file of --out.
    if not args.quiet and getattr(args, "json", None) != "-":
        print(text)


def _warn(args: argparse.Namespace, skipped: Skipped) -> None:
    """Print what was skipped to standard error, where it isn't mixed with the JSON of ``--json -``."""
    for line in skipped.lines(is_quiet=args.quiet):
        print(line, file=sys.stderr)


def _report(error: SlimError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT


def _written(args: argparse.Namespace) -> Path:
    """What the command writes, as it was given; the working folder where nothing was."""
    given = (getattr(args, name, None) for name in ("out", "json"))
    return next((Path(one) for one in given if one and str(one) != "-"), Path.cwd())


def _explain_refusal(error: OSError, written: Path) -> SlimError:
    """What a path that the system refuses means for the user: disk full, no permission, a file for a folder."""
    explained = explain_os_error(error, written)
    if explained is None:
        return SlimError(f"{error.filename}: {error.strerror}.", remedy="Choose another path.")
    return SlimError(explained.fact, remedy="Free some space, or write to another folder with --out or --json.")


if __name__ == "__main__":
    sys.exit(main())

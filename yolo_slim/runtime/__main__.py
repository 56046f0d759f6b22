"""The device's command line: ``python -m yolo_slim.runtime doctor | build | check | bench | detect | infer BUNDLE``.

Exit codes: 0 done, 1 the check failed or the timing doesn't count, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.errors import EXIT_BAD_INPUT, EXIT_FAIL, EXIT_OK, SlimError, explain_os_error
from yolo_slim.files import write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.bundle import Bundle
    from yolo_slim.runtime.bench import BenchResult
    from yolo_slim.runtime.selfcheck import CheckReport

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

MAX_BENCH_IMAGES = 64
"""Most frames that bench holds in memory."""
MAX_BENCH_BYTES = 128 * 2**20
"""Size of decoded images at which it takes no more: they count in the process's memory, which a profile may limit."""

_PROG = "python -m yolo_slim.runtime"
_PIP_NAMES = {"cv2": "opencv-python-headless"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's problem is one message on standard error."""
    args = _parser().parse_args(arguments)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SlimError as error:
        return _report(error)
    except ModuleNotFoundError as error:
        return _report(_explain_missing(error))
    except OSError as error:
        if error.filename is None:
            raise
        return _report(_explain_refusal(error))


def doctor(args: argparse.Namespace) -> int:
    """Say what this machine is, which runtimes it has, and whether the bundle runs."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime.doctor import as_text, examine, is_healthy

    report = examine(open_bundle(args.bundle) if args.bundle else None)
    _answer(args, report, as_text(report))
    return EXIT_OK if is_healthy(report) else EXIT_FAIL


def build(args: argparse.Namespace) -> int:
    """Build what the bundle leaves to this device: TensorRT's engine."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime.build import as_text
    from yolo_slim.runtime.build import build as build_bundle

    report = build_bundle(open_bundle(args.bundle), _progress_line(args), force=args.force)
    _answer(args, report.to_json(), as_text(report))
    return EXIT_OK


def check(args: argparse.Namespace) -> int:
    """Compare the bundle's detections on its own images with those of the workstation."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime import selfcheck

    report = selfcheck.check(open_bundle(args.bundle), args.threads)
    _answer(args, report.to_json(), _check_text(report))
    return EXIT_OK if report.is_passed else EXIT_FAIL


def bench(args: argparse.Namespace) -> int:
    """Time the bundle; a throttled run doesn't count and exits 1."""
    from yolo_slim.bundle import open_bundle
    from yolo_slim.runtime import bench as timing
    from yolo_slim.runtime.detector import Detector

    bundle = open_bundle(args.bundle)
    images = _bench_images(bundle, args.images)
    with Detector(bundle, args.threads) as detector:
        result = timing.bench(
            detector, images, min_queries=args.queries, min_seconds=args.seconds, max_celsius=args.max_celsius
        )
    _answer(args, result.to_json(), _bench_text(result))
    return EXIT_OK if result.is_valid else EXIT_FAIL


def detect(args: argparse.Namespace) -> int:
    """Write annotated images or an annotated video, and the detections as JSON."""
    from yolo_slim.runtime.annotate import annotate, new_folder
    from yolo_slim.runtime.detector import Detector
    from yolo_slim.runtime.infer import detections_to_json

    with Detector(args.bundle, args.threads) as detector, new_folder(args.out) as out:
        images = []
        for image in annotate(
            detector, args.source, out, conf=args.conf, iou=args.iou, convert_channels=args.convert_channels
        ):
            images.append(image)
            _say(args, f"{image.file}: {len(image.detections)} detections, {image.times.total_ms:.1f} ms")
        thresholds = detector.thresholds(args.conf, args.iou)
        value = detections_to_json(images, detector, "predict", thresholds)
        write_json(out / "detections.json", value)
    found = sum(len(image.detections) for image in images)
    _answer(args, value, f"{found} detections in {len(images)} frames, written to {out}")
    return EXIT_OK


def infer(args: argparse.Namespace) -> int:
    """Write the detections of many images to one file, for the host to score."""
    from yolo_slim.runtime.detector import Detector
    from yolo_slim.runtime.infer import infer_folder, save_detections
    from yolo_slim.runtime.sources import image_paths, is_video

    if is_video(args.source):
        raise SlimError(f"infer takes images, not a video: {args.source}", remedy="Use detect for a video.")
    root = args.source if args.source.is_dir() else args.source.parent
    with Detector(args.bundle, args.threads) as detector:
        images = infer_folder(detector, image_paths(args.source), args.mode, root)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_detections(args.out, images, detector, args.mode)
    _say(args, f"{sum(len(image.detections) for image in images)} detections in {len(images)} images: {args.out}")
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROG, description="Run a yolo_slim bundle on this device.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_doctor(_command(commands, "doctor", doctor))
    _add_build(_command(commands, "build", build))
    _add_bundle(_command(commands, "check", check))
    _add_bench(_command(commands, "bench", bench))
    _add_detect(_command(commands, "detect", detect))
    _add_infer(_command(commands, "infer", infer))
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    text = run.__doc__ or ""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    if name != "infer":
        parser.add_argument("--json", metavar="FILE", help="write the answer as JSON; -: to standard output")
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle folder or its .tar.gz")
    parser.add_argument("--threads", type=_count, metavar="N", help="inference threads (default: the bundle's)")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, nargs="?", help="a bundle folder or its .tar.gz")


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle folder or its .tar.gz")
    parser.add_argument("--force", action="store_true", help="build again even when the engine is current")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    images = f"image, folder or video, the first {MAX_BENCH_IMAGES} frames (default: the bundle's self-check images)"
    parser.add_argument("--images", metavar="SRC", type=Path, help=images)
    parser.add_argument("--seconds", type=_positive, default=10.0, help="least duration (default: 10)")
    parser.add_argument("--queries", type=_count, default=64, help="least timed frames (default: 64)")
    parser.add_argument("--max-celsius", type=_positive, metavar="C", help="a hotter run doesn't count")


def _add_detect(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="image, folder or video")
    out = Path("runs/detect")
    parser.add_argument("--out", metavar="DIR", type=Path, default=out, help=f"new folder (default: {out}; then DIR-2)")
    parser.add_argument("--conf", type=_share, help="score threshold (default: the bundle's)")
    parser.add_argument("--iou", type=_share, help="NMS threshold (default: the bundle's)")
    parser.add_argument("--convert-channels", action="store_true", help="convert grey and transparent images")


def _add_infer(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="image or folder of images")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--mode", choices=("val", "predict"), default="val", help="val: every class above .001")


def _count(text: str) -> int:
    return int(_checked(text, int(text) >= 1, "a positive integer"))


def _positive(text: str) -> float:
    return float(_checked(text, 0 < float(text) < float("inf"), "a positive number"))


def _share(text: str) -> float:
    return float(_checked(text, 0 <= float(text) <= 1, "a number from 0 to 1"))


def _checked(text: str, is_valid: bool, expected: str) -> str:
    if not is_valid:
        raise argparse.ArgumentTypeError(f"got {text}, expected {expected}")
    return text


def _bench_images(bundle: Bundle, source: Path | None) -> list[NDArray[np.uint8]]:
    from yolo_slim.runtime.selfcheck import FOLDER
    from yolo_slim.runtime.sources import frames

    if source is None and not (bundle.folder / FOLDER).is_dir():
        raise SlimError("The bundle has no self-check images to time.", remedy="Give images with --images.")
    images: list[NDArray[np.uint8]] = []
    for _, image in islice(frames(source or bundle.folder / FOLDER, convert_channels=True), MAX_BENCH_IMAGES):
        images.append(image)
        if sum(one.nbytes for one in images) >= MAX_BENCH_BYTES:
            break
    return images


def _check_text(report: CheckReport) -> str:
    lines = []
    for image in report.images:
        verdict = "differs" if image.problems else "ok"
        lines.append(f"{image.file}: {image.matched} of {image.expected} expected, {image.found} found, {verdict}")
        lines += [f"  - {problem}" for problem in image.problems]
    tolerance = f"IoU at least {report.min_iou}, score within {report.max_score_difference}"
    return "\n".join([*lines, f"self-check {'passed' if report.is_passed else 'FAILED'} ({tolerance})"])


def _bench_text(result: BenchResult) -> str:
    """Return the stage table."""
    runtime = result.runtime
    size = "x".join(str(side) for side in result.bundle["imgsz"])
    lines = [
        f"{result.bundle['name']}: {runtime['runtime']} {runtime['precision']} {size}, {runtime['provider']}, "
        f"{runtime['threads']} threads, {result.machine['model']}",
        f"{'stage':<8}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}",
    ]
    for stage, latency in result.stages.items():
        lines.append(f"{stage:<8}{latency.p50_ms:>10.2f}{latency.p90_ms:>10.2f}{latency.p99_ms:>10.2f}")
    lines.append(f"{result.fps:.1f} FPS end to end, {result.queries} frames in {result.seconds:.1f} s")
    return "\n".join(lines + [f"INVALID: {reason}" for reason in result.invalid_reasons])


def _answer(args: argparse.Namespace, value: Any, text: str) -> None:
    """Print the text, and write the JSON value where it was asked for; ``--json -`` prints that instead."""
    if args.json == "-":
        print(json.dumps(value, indent=2))
        return
    if args.json:
        write_json(Path(args.json), value)
    if not args.quiet:
        print(text)


def _progress_line(args: argparse.Namespace) -> Callable[[str], object]:
    """Return a function that shows one changing line, on a terminal only."""

    def tell(text: str) -> None:
        if sys.stderr.isatty() and not args.quiet:
            print(f"\r{text[:78]:<78}\r", end="", file=sys.stderr, flush=True)

    return tell


def _say(args: argparse.Namespace, text: str) -> None:
    """Print a line for people unless standard output carries JSON."""
    if not args.quiet and getattr(args, "json", None) != "-":
        print(text)


def _report(error: SlimError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT


def _explain_refusal(error: OSError) -> SlimError:
    """Return the user's version of a path that the system refuses: disk full, no permission, a file for a folder."""
    explained = explain_os_error(error, Path(str(error.filename)))
    if explained is None:
        return SlimError(f"{error.filename}: {error.strerror}.", remedy="Choose another path.")
    return SlimError(explained.fact, remedy="Free some space, or write to another folder with --out or --json.")


def _explain_missing(error: ModuleNotFoundError) -> SlimError:
    name = error.name or str(error)
    return SlimError(f"{name} isn't installed on this machine.", remedy=f"pip install {_PIP_NAMES.get(name, name)}")


if __name__ == "__main__":
    sys.exit(main())

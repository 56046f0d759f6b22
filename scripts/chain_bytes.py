"""Run the whole chain on a small rendered data set and record the SHA-256 of everything that it makes.

    python scripts/chain_bytes.py --out before.json            # before a change that claims equal results
    python scripts/chain_bytes.py --against before.json        # after it: names every file that differs

Equal seeds give equal bytes on one machine with the same package versions. Results with times of day or speeds
(manifests, result.json, report.html) are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from yolo_slim.files import read_json, sha256, write_json

TARGETS = ("rpi5", "jetson-orin-nano")
"""Together they make every graph: fp32, fp16, int8 and TensorRT's int8, and bundles of all runtimes."""
PATTERNS = ("prune/*.pt", "prune/*.json", "recover/*.pt", "export/*/*.onnx", "quantize/*/*", "build/*/*/**/*")
UNTIMED = frozenset(["manifest.json", "bundle.json"])
"""Files that hold versions, dates or the digests of others."""


def main() -> int:
    """Make everything, then write or compare the digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write the digests to")
    parser.add_argument("--against", type=Path, help="JSON file of an earlier call to compare with")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    # Ultralytics writes the paths of a training into its checkpoint, so every call has to work in the same folder.
    folder = Path(tempfile.gettempdir()) / "yolo-slim-chain-bytes"
    shutil.rmtree(folder, ignore_errors=True)
    found = digests(folder, arguments.epochs)
    shutil.rmtree(folder)
    if arguments.out:
        write_json(arguments.out, found)
    if not arguments.against:
        print(json.dumps(found, indent=2))
        return 0
    return report(read_json(arguments.against), found)


def digests(folder: Path, epochs: int) -> dict[str, str]:
    """Run the chain for every target and return the digest of each file, by its path below the run."""
    data = folder / "data"
    draw = (
        "import sys; from pathlib import Path\n"
        "try:\n    from yolo_slim.datasets import quickstart\n"
        "except ImportError:\n    from yolo_slim import quickstart\n"
        "quickstart.generate(Path(sys.argv[1]), counts={'train': 96, 'val': 24, 'test': 24}, imgsz=160)\n"
        "print(quickstart.default_model())"
    )
    done = subprocess.run([sys.executable, "-c", draw, str(data)], capture_output=True, text=True, check=True)
    model = done.stdout.strip().splitlines()[-1]
    found: dict[str, str] = {}
    for target in TARGETS:
        command = [sys.executable, "-m", "yolo_slim.cli", "run", "--model", model, "--data", str(data / "data.yaml")]
        command += ["--target", target, "--imgsz", "160", "--epochs", str(epochs), "--project", str(folder / "runs")]
        command += ["--name", target, "--set", "validate.min_seconds=0.1", "--set", "validate.min_queries=4"]
        ended = subprocess.run(command, env={**os.environ, "YOLO_OFFLINE": "true"}, check=False)
        if ended.returncode not in (0, 1, 3):
            raise SystemExit(ended.returncode)
        run = folder / "runs" / target
        paths = {path for pattern in PATTERNS for path in run.glob(pattern) if path.is_file()}
        kept = sorted(path for path in paths if path.name not in UNTIMED)
        found |= {f"{target}/{path.relative_to(run).as_posix()}": sha256(path) for path in kept}
    return found


def report(before: dict[str, str], after: dict[str, str]) -> int:
    """Print what differs; return 1 where something does."""
    keys = sorted({*before, *after})
    differing = [key for key in keys if before.get(key) != after.get(key)]
    for key in differing:
        state = "differs" if key in before and key in after else "missing now" if key in before else "new"
        print(f"{state:12} {key}")
    print(f"{len(keys) - len(differing)} of {len(keys)} files have equal bytes")
    if stages := sorted({key.split("/")[1] for key in differing}):
        print(f"Raise the REVISION of what changed on purpose; different results in: {', '.join(stages)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

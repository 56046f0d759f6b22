"""Say, before anything is installed, whether this machine has what yolo_slim needs. It needs no package itself.

    python -m scripts.check_machine --venv .venv

Exit code 2: something is missing; the last lines are what to type. ``--packages`` prints the names of the missing
Debian packages alone, for a script that installs them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yolo_slim.errors import EXIT_BAD_INPUT, EXIT_OK
from yolo_slim.prerequisites import look, report


def main() -> int:
    """Check, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="folder of the environment to be made")
    parser.add_argument("--without-cuda", action="store_true", help="torch comes from an index without CUDA")
    parser.add_argument("--packages", action="store_true", help="print missing Debian packages only")
    args = parser.parse_args()
    findings = look(args.venv, has_cuda=not args.without_cuda)
    unmet = [finding for finding in findings if not finding.is_met]
    if args.packages:
        print(*dict.fromkeys(package for finding in unmet for package in finding.packages))
        return EXIT_OK
    print(report(findings), file=sys.stderr if unmet else sys.stdout)
    return EXIT_BAD_INPUT if unmet else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

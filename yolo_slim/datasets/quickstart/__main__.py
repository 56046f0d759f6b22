"""``python -m yolo_slim.datasets.quickstart OUT``."""

import sys

from yolo_slim.datasets.quickstart import main

raise SystemExit(main(sys.argv[1:]))

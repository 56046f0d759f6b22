"""The timing cache: kernel times that TensorRT measured on this GPU, kept for the next build on it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from yolo_slim.backends.tensorrt.sdk import Gpu
from yolo_slim.files import write_atomic


def cache_path(gpu: Gpu, tensorrt: str) -> Path:
    """The file of one GPU and TensorRT below ``XDG_CACHE_HOME``."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{gpu.device}-sm{gpu.sm}-trt{tensorrt}-cuda{gpu.cuda}")
    return root / "yolo_slim" / "tensorrt" / f"{name}.timing"


def load_cache(config: Any, path: Path) -> tuple[Any, str]:
    """Give the builder configuration a cache, filled from ``path`` where that is readable.

    Returns:
        The cache and what happened: ``new``, ``reused``, or ``new (why the file wasn't used)``.
    """
    content = path.read_bytes() if path.is_file() else b""
    cache, reason = _created(config, content)
    # False: TensorRT refuses the times of another device.
    if cache is not None and config.set_timing_cache(cache, False):
        return cache, "reused" if content else "new"
    # From no bytes TensorRT makes a new cache.
    cache, _ = _created(config, b"")
    config.set_timing_cache(cache, False)
    return cache, f"new ({path.name} {reason or 'belongs to another device or TensorRT'})"


def save_cache(config: Any, path: Path) -> str:
    """Merge what this build measured into the file, atomically; the answer is why not, or an empty string."""
    cache = config.get_timing_cache()
    if path.is_file():  # another build may have written since the file was read: its times stay
        other, _ = _created(config, path.read_bytes())
        if other is not None:
            cache.combine(other, False)
    content = bytes(cache.serialize())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        return f"not kept: {error.filename or path}: {error.strerror}"
    return ""


def _created(config: Any, content: bytes) -> tuple[Any, str]:
    """A cache; or None, and why."""
    try:  # whether damaged bytes give None or an exception depends on TensorRT's version
        cache = config.create_timing_cache(content)
    except Exception as error:  # pybind11 raises whatever the library threw
        return None, f"can't be read: {error}"
    return cache, "" if cache is not None else "can't be read"

"""A machine and a timing on it, as result files contain them."""

from __future__ import annotations

from typing import Any

import numpy as np

MACHINE = {
    "model": "Example Board",
    "arch": "aarch64",
    "cores": 4,
    "cpu_features": ["asimd", "fphp"],
    "memory_total_mb": 8062,
    "system": "Linux-6.6",
}


def make_bench(center_ms: float, seed: int) -> dict[str, Any]:
    """Return a valid timing of 300 frames with a slow tail."""
    rng = np.random.default_rng(seed)
    parts = {"pre": 0.06, "infer": 0.86, "post": 0.08}
    samples = {k: center_ms * share * (1 + rng.gamma(2.0, 0.02, 300)) for k, share in parts.items()}
    samples["infer"][::60] *= 1.5
    samples["total"] = samples["pre"] + samples["infer"] + samples["post"]
    stages = {
        key: {
            "mean_ms": float(ms.mean()),
            **{f"p{q}_ms": float(np.percentile(ms, q)) for q in (50, 90, 99)},
        }
        for key, ms in samples.items()
    }
    return {
        "fps": 1000 / stages["total"]["p50_ms"],
        "fps_means": "1000 / median end-to-end latency in ms",
        "threads": 4,
        "stages": stages,
        "samples_ms": {key: [round(float(v), 3) for v in ms] for key, ms in samples.items()},
        "queries": 300,
        "seconds": float(samples["total"].sum() / 1000),
        "peak_memory_mb": 212.4,
        "valid": True,
        "invalid_reasons": [],
        "machine": MACHINE,
        "runtime": {"version": "1.0", "provider": "CPU", "threads": 4},
        "measured_at": "2026-01-02T03:04:05+00:00",
    }

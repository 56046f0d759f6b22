"""An estimate of inference time is what its published rows say, with their sources and an honest band."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from scripts.bench_estimate import evaluate
from scripts.yolobench import RECORDS, YOLOBENCH, YoloBench
from yolo_slim.build_key import BuildName
from yolo_slim.config import targets
from yolo_slim.config.profile import Profile
from yolo_slim.files import read_json
from yolo_slim.measuring import published
from yolo_slim.measuring.estimate import ERRORS, Compared, Estimate, Network, error_factor, estimate, fit, why_none
from yolo_slim.measuring.published import PublishedRow

NCNN, ORT, INT8 = (BuildName.parse(name) for name in ("ncnn-fp16", "onnxruntime-fp32", "onnxruntime-int8"))
YOLO26N = next(row for row in published.rows() if row.network == "yolo26n")


def network(imgsz: int = 640, *, is_pruned: bool = False, share: float = 1.0) -> Network:
    """Return a yolo26n, or a part of its MACs."""
    macs = round(YOLO26N.macs * share * imgsz**2 / 640**2)
    return Network(macs=macs, imgsz=imgsz, is_pruned=is_pruned)


def estimated(build: BuildName = NCNN, target: str = "rpi5", **given: Any) -> Estimate:
    """Return the estimate of such a network."""
    found = estimate(targets.load(target), build, network(**given))
    assert found is not None
    return found


def rows(build: BuildName, *points: tuple[int, float]) -> list[PublishedRow]:
    """Return rows of 640 px with these billions of MACs and milliseconds."""
    return [replace(YOLO26N, build=build, network=str(gmacs), macs=gmacs * 10**9, infer_ms=ms) for gmacs, ms in points]


def test_a_fit_is_exact_where_rows_are() -> None:
    """Rows on a line give that line; on a CPU its fixed part follows the number of pixels, on a GPU it stays."""
    cpu = fit(rows(ORT, (1, 30.0), (2, 50.0), (5, 110.0)))
    assert cpu is not None
    assert (cpu.fixed_ms, cpu.ms_per_gmac) == pytest.approx((10, 20))
    assert cpu.infer_ms(0.25e9, 320) == pytest.approx(10 / 4 + 5)
    gpu = fit(rows(BuildName("tensorrt", "fp16"), (1, 30.0), (2, 50.0)))
    assert gpu is not None
    assert gpu.infer_ms(0.25e9, 320) == pytest.approx(10 + 5)


def test_a_fit_needs_two_networks() -> None:
    """Two figures of one network give no line; a fixed part is never negative."""
    assert fit(rows(ORT, (2, 50.0), (2, 55.0))) is None
    steep = fit(rows(ORT, (1, 10.0), (2, 50.0)))
    assert steep is not None
    assert steep.fixed_ms == 0


@pytest.mark.parametrize(("target", "build"), [("rpi5", NCNN), ("rpi5", ORT), ("jetson-orin-nano", None)])
def test_what_was_published_is_inside_its_own_band(target: str, build: BuildName | None) -> None:
    """The rows of yolo26n lie between the ends of the estimate for yolo26n."""
    build = build or BuildName("tensorrt", "fp16")
    found = estimated(build, target)
    known = [row.infer_ms for row in found.rows if row.network == "yolo26n"]
    assert known
    assert all(found.lowest_ms < ms < found.highest_ms for ms in known)
    assert found.infer_fps == pytest.approx(1000 / found.infer_ms)


def test_every_row_is_cited() -> None:
    """Each figure has its publisher, page and date."""
    for row in published.rows():
        assert row.source.project
        assert row.source.page
        assert row.source.date[:2] == "20"
        assert row.infer_ms > 0
    assert {row.device for row in published.rows()} <= {device.name for device in published.devices()}
    found = estimated()
    assert len(found.rows) == 9
    assert all("Ultralytics" in row.source or "Arm" in row.source for row in found.rows)
    assert found.dates == "2024 to 2026-09"


def test_every_step_away_from_the_rows_widens_the_band() -> None:
    """Another input side, a still smaller one and pruned widths each add their error."""
    own = [row for row in published.rows() if row.device == "rpi5" and row.build == NCNN]
    bands = [
        error_factor("ncnn", own, network(imgsz, is_pruned=is_pruned))
        for imgsz, is_pruned in ((640, False), (320, False), (320, True), (160, True))
    ]
    assert bands == sorted(bands)
    assert len(set(bands)) == 4
    assert 1.1 < bands[0] < bands[-1] < 2


def test_a_measured_ratio_widens_the_band_and_moves_nothing() -> None:
    """Where this workstation's timing says something else than the MACs, the band contains both."""
    profile, half = targets.load("rpi5"), network(share=0.5, is_pruned=True)
    plain = estimate(profile, NCNN, half)
    assert plain is not None
    for ratio in (4.0, 1.0, 0.5):
        found = estimate(profile, NCNN, half, Compared(macs=YOLO26N.macs, ratio=ratio))
        assert found is not None
        by_ratio = estimated().infer_ms / ratio
        assert found.infer_ms == plain.infer_ms
        assert found.lowest_ms == min(plain.lowest_ms, by_ratio)
        assert found.highest_ms == max(plain.highest_ms, by_ratio)


def changed(profile: Profile, **values: Any) -> Profile:
    """Return a profile with other values."""
    return profile.model_copy(update=values)


def test_where_nothing_fits_there_is_no_estimate() -> None:
    """No rows of the device or the build, other threads, another power mode, or a pattern that fits two devices."""
    pi, nano = targets.load("rpi5"), targets.load("jetson-orin-nano")
    fp16 = BuildName("tensorrt", "fp16")
    for profile, build, reason in (
        (targets.load("host"), ORT, "nothing was published for the device of host"),
        (changed(pi, device_model="Raspberry Pi"), NCNN, "nothing was published for the device of rpi5"),
        (pi, INT8, "too few rows were published of onnxruntime-int8 on a Raspberry Pi 5"),
        (changed(pi, threads=3), NCNN, "the rows of the Raspberry Pi 5 are of 4 threads, rpi5 has 3"),
        (changed(nano, power_mode="15W"), fp16, "the rows of the Jetson Orin Nano Super are of power mode MAXN_SUPER"),
    ):
        assert estimate(profile, build, network()) is None
        assert why_none(profile, build) == reason
    assert why_none(pi, NCNN) == ""


def test_a_users_own_profile_is_known_by_its_device() -> None:
    """The model in the device tree counts, not the profile's name."""
    found = estimate(changed(targets.load("rpi5"), name="shop-window"), NCNN, network())
    assert found is not None
    assert found == estimated()


def test_the_band_is_that_of_the_evaluation() -> None:
    """The factors that are shipped, and the recorded errors, are what the script finds in the rows that are kept."""
    errors, factors = evaluate(YoloBench(YOLOBENCH))
    assert read_json(ERRORS)["factors"] == factors, "rows or records changed: python -m scripts.bench_estimate --write"
    recorded = read_json(RECORDS / "estimate.json")
    assert recorded["factors"] == factors
    assert [(one["step"], one["rows"], one["number"]) for one in recorded["errors"]] == [
        (one.step, one.rows, one.number) for one in errors
    ]
    assert [one["worst"] for one in recorded["errors"]] == pytest.approx([one.worst for one in errors])


def test_the_original_table_is_read_like_the_kept_part(tmp_path: Any) -> None:
    """Seconds and the columns' own names make no difference; a column that a file lacks is left out."""
    kept = YoloBench(YOLOBENCH)
    lines = ["model_name,nano_gpu_latency,openvino_latency,vim3_latency,raspi4_tflite_latency"]
    for (name, side), ms in kept.rows.items():
        figures = [ms["jetson_nano_onnxruntime"], ms["x86_openvino"], 1.0, ms["rpi4_tflite"]]
        lines.append(f"{name}_{side}," + ",".join(str(value / 1000) for value in figures))
    path = tmp_path / "YOLO_latency.csv"
    path.write_text("\n".join(lines))
    original = YoloBench(path)
    assert original.rows.keys() == kept.rows.keys()
    assert original.sides("rpi4_tflite") == pytest.approx(kept.sides("rpi4_tflite"))
    assert {key for found in original.rows.values() for key in found} == {
        "jetson_nano_onnxruntime", "x86_openvino", "rpi4_tflite",
    }  # fmt: skip


def test_an_estimate_reads_back() -> None:
    """Its JSON is complete."""
    found = estimated()
    assert Estimate.model_validate_json(json.dumps(found.to_json())) == found

"""One validation's measurements: every network on the same images, every bundle timed in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yolo_slim.config.run import ValidateConfig
from yolo_slim.measuring.accuracy import Accuracy, score
from yolo_slim.measuring.builds import MeasuredBuild, measure_builds
from yolo_slim.measuring.detect import Answers, detect_bundles, detect_rungs, place_bundles, tune_bundles
from yolo_slim.measuring.ladder import ScoredRung, ladder
from yolo_slim.measuring.networks import Networks, Setup


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was measured, before it is judged."""

    names: dict[int, str]
    """Class id to name."""
    ladder: Sequence[ScoredRung]
    """The control first."""
    builds: Sequence[MeasuredBuild]
    """The profile's first choice first."""
    control: Answers
    """What the control detects, image by image."""
    slim: Answers
    """What the last weights of the chain detect."""
    trained: Mapping[str, float] = field(default_factory=dict)
    """Rung of weights to the mAP50-95 that the checkpoint records of its own training."""


def measure(networks: Networks, config: ValidateConfig, setup: Setup) -> Measured:
    """Detect with every network, score, and time the bundles on the device."""
    from yolo_slim.models.ultralytics import use_all_cores

    # An export in the same process leaves PyTorch with another number of threads.
    use_all_cores()
    names, truths = networks.weights["control"].names, setup.images.truths
    rungs = detect_rungs(networks, setup)
    placed = place_bundles(networks, setup)
    if config.tune:
        tune_bundles(placed, setup)
    bundles = detect_bundles(networks, placed, setup)

    def scored(answers: Answers) -> Accuracy:
        return score(truths, answers, names)

    accuracies = {key: scored(answers) for key, answers in bundles.items()}
    of_rungs = {rung: scored(answers) for rung, answers in rungs.items()}
    return Measured(
        names=names,
        ladder=ladder(of_rungs, accuracies, placed, setup.device.name),
        builds=measure_builds(networks, accuracies, placed, config, setup),
        control=rungs["control"],
        slim=rungs[list(networks.weights)[-1]],
        trained={name: one.trained_map50_95 for name, one in networks.weights.items() if one.trained_map50_95},
    )

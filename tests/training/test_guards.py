"""What stops a recovery is told with a way out, and nothing that was trained is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import tiny_data
from tests.helpers.constants import ROOT
from tests.helpers.listeners import Remembers
from yolo_slim import api, pipeline
from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint
from yolo_slim.models.size import conv_widths
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.outputs import outputs_in
from yolo_slim.stages import prune, recover
from yolo_slim.stages.context import Context
from yolo_slim.training.arguments import (
    Training,
    check_overrides,
    check_teacher,
    require_device,
    training_arguments,
)
from yolo_slim.training.guards import all_finite, batch_that_fits, is_out_of_memory, out_of_memory, require_teacher
from yolo_slim.training.precision import has_bfloat16
from yolo_slim.training.resume import is_finished
from yolo_slim.training.settings import settings_of, teacher_of
from yolo_slim.training.trainer import trainer_of
from yolo_slim.workspace.job import Job, Made

QUICK = RecoverConfig(epochs=2, batch=8, device="cpu", overrides={"workers": 0, "fraction": 0.5, "cache": False})
KEPT = {"manifest.json", "job.json", "recovered.pt", "best.pt", "last.pt"}
Recover = Callable[..., recover.RecoverOutputs]


@pytest.fixture(scope="module")
def cut(untrained: Callable[[str], Path], signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pruned yolov8n."""
    inputs = prune.PruneInputs(model=untrained("yolov8n"))
    config = PruneConfig(macs_removed=0.6, criterion="l2", normalize="mean", steps=1, bn_images=8)
    return prune.run(inputs, config, tmp_path_factory.mktemp("cut"), Context.load(signs, imgsz=64)).weights


@pytest.fixture
def train(cut: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> Recover:
    """Return a function that trains the pruned network in one folder; settings beside :data:`QUICK`'s."""

    def run(
        *, teacher: Path | None = None, progress: Progress | None = None, folder: str = "recover", **settings: Any
    ) -> recover.RecoverOutputs:
        inputs = recover.RecoverInputs(weights=cut, teacher=teacher or untrained("yolov8n"))
        config = QUICK.model_copy(update=settings)
        context = Context.load(signs, imgsz=64, progress=progress or Silent())
        return recover.run(inputs, config, tmp_path / folder, context)

    return run


def in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, spoil: Callable[[Any], None]) -> None:
    """Let ``spoil`` have every batch of one epoch before it is trained on."""
    from yolo_slim.training.trainer import SlimTrainer

    whole = SlimTrainer.preprocess_batch

    def preprocess(self: Any, batch: Any) -> Any:
        batch = whole(self, batch)
        if self.epoch == epoch:
            spoil(batch)
        return batch

    monkeypatch.setattr(SlimTrainer, "preprocess_batch", preprocess)


def refuse(error: BaseException) -> Callable[[Any], None]:
    """Return what raises an error for a batch."""

    def spoil(_: Any) -> None:
        raise error

    return spoil


def test_nan_keeps_the_last_good_epoch(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that isn't finite stops the training; best.pt holds finite weights, and the same command goes on."""
    weights = tmp_path / "recover" / "train" / "weights"
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
        with pytest.raises(SlimError, match=r"loss became NaN or infinite in epoch 2") as caught:
            train()
    assert str(weights / "best.pt") in str(caught.value)
    assert all(word in caught.value.remedy for word in ("lr0", "distill", "amp"))
    good = checkpoint.load(weights / "best.pt").model
    assert all_finite(good.state_dict().values())
    listener = Remembers()
    outputs = train(progress=listener)
    assert "resumes after epoch 1 of 2" in listener.said
    assert all_finite(checkpoint.load(outputs.weights).model.state_dict().values())


def test_nan_by_the_last_step_of_an_epoch(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that aren't finite though every loss was aren't saved: last.pt stays good, training goes on from it."""
    from yolo_slim.training.trainer import SlimTrainer

    whole = SlimTrainer.validate

    def validate(self: Any) -> Any:
        if self.epoch == 1:
            for network in (self.model, self.ema.ema):
                next(network.parameters()).data.fill_(float("nan"))
        return whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(SlimTrainer, "validate", validate)
        with pytest.raises(SlimError, match="network became NaN or infinite in epoch 2"):
            train()
    last = torch.load(tmp_path / "recover" / "train" / "weights" / "last.pt", weights_only=False)
    kept = next(last["ema"].parameters())
    assert last["epoch"] == 0
    assert torch.isfinite(kept).all()
    assert kept.abs().sum() > 0
    listener = Remembers()
    train(progress=listener)
    assert "resumes after epoch 1 of 2" in listener.said


def test_going_on_draws_anew(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop the images come in another order than in the first epoch; two trainings begin with the same."""
    from yolo_slim.training.trainer import SlimTrainer

    whole, seen = SlimTrainer.preprocess_batch, list[list[str]]()

    def noted(self: Any, batch: Any) -> Any:
        seen[-1] += [Path(file).name for file in batch["im_file"]]
        return whole(self, batch)

    for folder in ("first", "second"):
        with monkeypatch.context() as patched:
            patched.setattr(SlimTrainer, "preprocess_batch", noted)
            in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
            seen.append([])
            with pytest.raises(SlimError, match="epoch 2"):
                train(folder=folder)
    monkeypatch.setattr(SlimTrainer, "preprocess_batch", noted)
    seen.append([])
    train(folder="first")
    first, second, after = seen
    assert first == second
    assert sorted(after) == sorted(first[: len(after)])
    assert after != first[: len(after)]


def test_nan_in_the_first_epoch(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was trained yet, nothing is claimed to be kept."""
    in_epoch(monkeypatch, 0, lambda batch: batch["img"].fill_(float("inf")))
    with pytest.raises(SlimError, match="No epoch was finished before"):
        train()


def test_out_of_memory_names_a_batch(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that doesn't fit is never halved silently, whatever the error says it with."""
    gpu, cpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError()
    for error in (gpu, cpu):
        with monkeypatch.context() as patched:
            in_epoch(patched, 0, refuse(error))
            with pytest.raises(SlimError, match="with 8 images of 64 px") as caught:
                train()
        assert "recover.batch to 4" in caught.value.remedy
    in_epoch(monkeypatch, 0, refuse(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        train()


def test_lost_worker_names_what_needs_less_memory(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loading process that died, mostly for want of shared memory, ends no run in a traceback."""
    for text in (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory.",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
        "unable to mmap 1024 bytes from file </torch_7>: Cannot allocate memory (12)",
    ):
        with monkeypatch.context() as patched:
            in_epoch(patched, 0, refuse(RuntimeError(text)))
            with pytest.raises(MachineError, match="process that loads images") as caught:
                train()
        assert "--train workers=0" in caught.value.remedy


def test_failed_replacement_gives_the_finished_recovery_back(
    train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery that was to take a finished one's place and has no whole epoch costs nothing; a whole one does."""
    folder = tmp_path / "recover"
    train(epochs=1)
    kept = {path: sha256(path) for path in folder.rglob("*") if path.is_file() and path.name in KEPT}
    assert len(kept) == 5
    with pytest.raises(SlimError, match="Ultralytics can't train with these arguments"):
        train(epochs=1, overrides={**QUICK.overrides, "optimizer": "AdamWW"})
    assert {path: sha256(path) for path in kept} == kept
    assert not (folder / "before").exists()
    listener = Remembers()
    train(epochs=1, progress=listener)
    assert "up to date, skipped" in listener.said
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
        with pytest.raises(SlimError, match="NaN"):
            train()
    assert sha256(folder / "before" / "manifest.json") == kept[folder / "manifest.json"]
    with pytest.raises(SlimError, match="unfinished training with other settings"):
        train(epochs=1)
    shutil.rmtree(folder / "train")
    train(epochs=1, progress=listener)
    assert {path: sha256(path) for path in kept} == kept
    train()
    assert read_json(folder / "manifest.json")["settings"]["epochs"] == 2
    assert not (folder / "before").exists()


def test_memory_errors_and_batches() -> None:
    """What means too little memory is told apart, and a batch is halved until it fits what is known."""
    allocator = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
    assert is_out_of_memory(allocator)
    assert is_out_of_memory(RuntimeError("[enforce fail] posix_memalign: Cannot allocate memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert batch_that_fits(16) == 8
    assert batch_that_fits(16, used=40e9, available=8e9) == 2
    assert batch_that_fits(3) == 1
    assert "smaller IMGSZ" in str(out_of_memory(1, 640))


@pytest.mark.parametrize(
    ("teacher", "difference"),
    [
        ("yolo26n", "box bins (reg_max): 1 in the teacher, 16 here"),
        ("yolo26n", "one-to-one head: True in the teacher, False here"),
        ("yolov8n-p2", "strides of the levels: [4, 8, 16, 32] in the teacher, [8, 16, 32] here"),
    ],
)
def test_teachers_that_cannot_teach(
    teacher: str, difference: str, train: Recover, untrained: Callable[[str], Path], tmp_path: Path
) -> None:
    """Another head is refused by name before training."""
    with pytest.raises(SlimError, match="can't teach") as caught:
        train(teacher=untrained(teacher))
    assert difference in caught.value.culprits
    assert not (tmp_path / "recover").exists()


def test_teacher_of_other_classes(untrained: Callable[[str], Path]) -> None:
    """Other names are refused even where their number is the same; the model itself is not."""
    student, other = (checkpoint.load(untrained("yolov8n")).model for _ in range(2))
    require_teacher(student, other, Path("t.pt"))
    other.names = {i: f"{name}!" for i, name in other.names.items()}
    with pytest.raises(SlimError, match="classes: "):
        require_teacher(student, other, Path("t.pt"))


def test_larger_teacher(train: Recover, untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """A wider network teaches; it counts by its content, wherever its file lies, and another one trains anew."""
    larger = untrained("yolov8s")
    once = train(teacher=larger, epochs=1)
    stamp = once.weights.stat().st_mtime_ns
    moved = shutil.copyfile(larger, tmp_path / "moved.pt")
    listener = Remembers()
    train(teacher=Path(moved), epochs=1, progress=listener)
    assert "up to date, skipped" in listener.said
    train(epochs=1)
    assert once.weights.stat().st_mtime_ns != stamp


def test_teacher_changes_what_is_learnt(train: Recover) -> None:
    """A teacher's answers move the weights; without them, and with weight 0, the same weights come out twice."""
    taught, alone, again = (
        checkpoint.load(train(epochs=1, distill=weight, folder=name).weights).model.state_dict()
        for name, weight in (("taught", 3.0), ("alone", 0.0), ("again", 0.0))
    )
    key = "model.22.cv3.0.2.weight"
    assert torch.equal(alone[key], again[key])
    assert not torch.equal(taught[key], alone[key])


def test_settings_name_the_teacher(untrained: Callable[[str], Path]) -> None:
    """The setting takes the model's place as teacher, and one that can't teach is refused with the other inputs."""
    student = checkpoint.load(untrained("yolov8n"))
    named = RecoverConfig(teacher=str(untrained("yolov8s")))
    assert teacher_of(named, student.path) == untrained("yolov8s")
    assert teacher_of(RecoverConfig(), student.path) == student.path
    assert "teacher" not in settings_of(named)
    check_teacher(named, student)
    wrong = RecoverConfig(teacher=str(untrained("yolo26n")))
    with pytest.raises(SlimError, match="can't teach"):
        check_teacher(wrong, student)
    check_teacher(wrong.model_copy(update={"distill": 0.0}), student)


def test_frozen_layers_stay(train: Recover, cut: Path) -> None:
    """Ultralytics' freeze holds a pruned network's first layers while it is distilled, and no others."""
    outputs = train(epochs=1, overrides={**QUICK.overrides, "freeze": 3, "lr0": 0.01})
    before, after = checkpoint.load(cut).model.state_dict(), checkpoint.load(outputs.weights).model.state_dict()
    weights = [key for key in before if key.endswith("conv.weight")]
    same = {key for key in weights if torch.equal(before[key].half(), after[key].half())}
    assert same == {key for key in weights if int(key.split(".")[1]) < 3} | {"model.22.dfl.conv.weight"}
    statistics = "model.1.bn.running_mean"
    assert torch.equal(before[statistics].half(), after[statistics].half())


def test_changed_arguments_lose_nothing(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished training of other arguments is refused by name and kept; with the old ones it goes on."""
    folder = tmp_path / "recover"
    last = folder / "train" / "weights" / "last.pt"
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
        with pytest.raises(SlimError):
            train()
    kept = sha256(last)
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        train(epochs=3, overrides={**QUICK.overrides, "lr0": 0.0003})
    assert caught.value.culprits == ("epochs 2 -> 3", "overrides.lr0 not set -> 0.0003")
    assert sha256(last) == kept
    listener = Remembers()
    train(progress=listener)
    assert "resumes after epoch 1 of 2" in listener.said
    assert (folder / "manifest.json").exists()
    again = train(epochs=1)
    assert read_json(folder / "manifest.json")["settings"]["epochs"] == 1
    assert again.weights.exists()


def test_another_stages_manifest(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another stage has finished in the same folder doesn't make an unfinished training a finished one."""
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
        with pytest.raises(SlimError):
            train()
    kept = sha256(tmp_path / "recover" / "train" / "weights" / "last.pt")
    Job(stage="export", folder=tmp_path / "recover", settings={}, inputs={}, revision=1, packages=()).finish(
        Made(outputs=[]), seconds=0
    )
    with pytest.raises(SlimError, match="unfinished training with other settings"):
        train(epochs=3)
    assert sha256(tmp_path / "recover" / "train" / "weights" / "last.pt") == kept


def test_timed_training_is_finished_by_ultralytics_alone() -> None:
    """Where the time decides, epochs beyond those asked for say nothing of the end."""
    assert is_finished(29, 30, {})
    assert not is_finished(28, 30, {})
    assert not is_finished(40, 30, {"time": 2})
    assert is_finished(-1, 30, {"time": 2})


def test_half_written_checkpoints(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill left of a checkpoint takes no whole one's place; an unreadable last.pt names the best epoch."""
    weights = tmp_path / "recover" / "train" / "weights"
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
        with pytest.raises(SlimError):
            train()
    whole = (weights / "last.pt").read_bytes()
    (weights / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SlimError, match=r"(?s)last\.pt can't be read.*best\.pt"):
        train()
    (weights / "last.pt").write_bytes(whole)
    (weights / ".best.pt.tmp").write_bytes(b"half")
    never_better(monkeypatch)
    train()
    assert checkpoint.load(weights / "best.pt").sha256 != sha256(weights / "last.pt")
    assert not list(weights.glob(".*.tmp"))


def never_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no further epoch be the best."""
    from yolo_slim.training.trainer import SlimTrainer

    whole = SlimTrainer.save_model

    def save(self: Any) -> bool:
        self.best_fitness = self.fitness + 1
        return whole(self)

    monkeypatch.setattr(SlimTrainer, "save_model", save)


def test_moved_folder_goes_on_where_it_lies(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that stopped goes on in the folder it was moved to; nothing is written where it began."""
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda batch: batch["img"].fill_(float("nan")))
        with pytest.raises(SlimError):
            train()
    (tmp_path / "recover").rename(tmp_path / "moved")
    listener = Remembers()
    outputs = train(progress=listener, folder="moved")
    assert "resumes after epoch 1 of 2" in listener.said
    assert outputs.weights.parent == tmp_path / "moved"
    assert len(outputs.results.read_text(encoding="utf-8").splitlines()) == 3
    assert not (tmp_path / "recover").exists()


@pytest.mark.parametrize(
    "argument",
    [{"lr0": "high"}, {"mosaic": 5}, {"optimizer": "Foo"}, {"freeze": 1000}],
)
def test_values_that_ultralytics_refuses(argument: dict[str, Any], train: Recover) -> None:
    """A value of a wrong type, range or name is an error with a way out, not a traceback."""
    with pytest.raises(SlimError, match=r"Ultralytics (doesn't take|can't train with these arguments)"):
        train(overrides={**QUICK.overrides, **argument})


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that torch doesn't see is named before anything is trained; the CPU and an empty device are fine."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("", "cpu", "0", "cuda:0"):
        require_device(device)
    with pytest.raises(SlimError, match="asks for GPU 1, 2; this machine has 1"):
        require_device("0,1,2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SlimError, match="asks for GPU 0; this machine has none"):
        require_device("0")
    for device in ("cuda", "gpu", "auto", "xpu:0", "0,cpu", "mps"):
        with pytest.raises(SlimError, match=r"recover\.device"):
            require_device(device)


def test_bfloat16_where_the_gpu_has_it(cut: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On such a GPU nothing is tried with a downloaded network; the device isn't part of what a training is."""
    training = Training(weights=cut, teacher=cut, data=signs, folder=tmp_path, imgsz=64, seed=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has, amp in ((True, "bf16"), (False, True)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        given, cpu = (
            training_arguments(training, QUICK.model_copy(update={"device": device})) for device in ("", "cpu")
        )
        assert given["amp"] == amp
        assert cpu["amp"] == has_bfloat16()
    assert "device" not in settings_of(QUICK)


@pytest.mark.parametrize(
    "argument",
    [
        {"pretrained": "other.pt"},
        {"save": False},
        {"cfg": "hyp.yaml"},
        {"split": "test"},
        {"single_cls": True},
        {"classes": [0]},
        {"nms": True},
    ],
)
def test_arguments_that_would_lose_the_network(argument: dict[str, Any]) -> None:
    """Other weights, a training without checkpoints, another split or classes, and what nothing reads are refused."""
    with pytest.raises(SlimError, match="can't be passed"):
        check_overrides(argument)


def test_exported_head_chooses_the_epoch(
    untrained: Callable[[str], Path], signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training for the one-to-one head is validated by it, whoever starts it; another model has no such head."""
    weights = untrained("yolo26n")
    inputs = recover.RecoverInputs(weights=weights, teacher=weights)
    one, context = QUICK.model_copy(update={"epochs": 1}), Context.load(signs, imgsz=64, end2end=True)
    recover.run(inputs, one, tmp_path / "out", context)
    last = torch.load(tmp_path / "out" / "train" / "weights" / "last.pt", weights_only=False)
    assert last["train_args"]["nms"] is False
    assert last["model"].model[-1].end2end
    other = recover.RecoverInputs(weights=untrained("yolov8n"), teacher=untrained("yolov8n"))
    with pytest.raises(SlimError, match="no one-to-one head"):
        recover.run(other, one, tmp_path / "other", context)

    asked = []

    def noted(_: Any, __: Any, ___: Any, context: Context, **____: Any) -> None:
        asked.append(context.end2end)
        raise KeyboardInterrupt

    monkeypatch.setattr(recover, "run", noted)
    config = api.make_config(weights, signs, imgsz=64, settings={"export.end2end": True})
    this = pipeline.prepared(config, tmp_path / "run")
    monkeypatch.setattr(prune, "run", lambda *_, **__: outputs_in(tmp_path))
    for start in (
        lambda: api.recover(weights, weights, signs, tmp_path / "r", imgsz=64, settings={"export.end2end": True}),
        lambda: pipeline.trained_and_built(this, weights, "slim", seed=0),
        lambda: pipeline.run(config, project=tmp_path, name="chain"),
    ):
        with pytest.raises(KeyboardInterrupt):
            start()
    assert asked == [True, True, True]


@pytest.mark.parametrize("asked", [0.0, 0.25])
def test_dropout_of_a_classifier(asked: float, tmp_path: Path) -> None:
    """What is asked for is set, as Ultralytics does; without, the network's own stays."""
    data, model = tiny_data.make(tmp_path / "data", "classify"), tiny_data.network("yolo11n", "classify")
    model.model[-1].drop.p = 0.1
    weights = tiny_data.save(model, tmp_path / "model.pt")
    training = Training(weights=weights, teacher=weights, data=data, folder=tmp_path / "out", imgsz=64, seed=0)
    config = QUICK.model_copy(update={"overrides": {**QUICK.overrides, "dropout": asked}})
    trainer = trainer_of("classify", "answers")(overrides=training_arguments(training, config))
    assert trainer.get_model(weights=model).model[-1].drop.p == (asked or 0.1)


def test_trainer_travels_to_other_processes(
    cut: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that Ultralytics starts on every GPU finds our trainer and its settings in a fresh process."""
    pytest.importorskip("cloudpickle")
    from ultralytics.utils import dist

    from yolo_slim.training.trainer import SlimTrainer

    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    teacher, folder = untrained("yolov8n"), tmp_path / "out"
    training = Training(weights=cut, teacher=teacher, data=signs, folder=folder, imgsz=64, seed=0)
    script = Path(dist.generate_ddp_file(SlimTrainer(overrides=training_arguments(training, QUICK))))
    state = script.with_suffix(".pt")
    assert "trainer.train()" in script.read_text()
    code = (
        "import sys; from ultralytics.utils.patches import torch_load\n"
        "state = torch_load(sys.argv[1], map_location='cpu')\n"
        "print(state['trainer'].__module__, state['trainer'].__name__, state['args']['dis'], state['model'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(state)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["yolo_slim.training.trainer", "SlimTrainer", "3.0", str(cut)]


def test_two_processes(train: Recover, cut: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that share a training see different images, end with the same weights and keep the pruned widths."""
    use_two_processes(monkeypatch)
    outputs = train()
    folder = tmp_path / "recover" / "train"
    first, second = (torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    there = len(list((signs.parent / "images" / "train").iterdir()))
    assert not set(first["seen"]) & set(second["seen"])
    assert len(set(first["seen"]) | set(second["seen"])) == QUICK.epochs * there // 2
    assert all(torch.equal(a, b) for a, b in zip(first["weights"], second["weights"], strict=True))
    recovered, before = (checkpoint.load(path).model for path in (outputs.weights, cut))
    assert conv_widths(recovered) == conv_widths(before)
    assert not torch.equal(next(recovered.parameters()), next(before.parameters()))


def test_nan_in_one_of_two_processes(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends both, best.pt of the epoch before stays, and the same command goes on from there."""
    use_two_processes(monkeypatch)
    with monkeypatch.context() as spoiled:
        spoiled.setenv("TEST_SPOILED_RANK", "1")
        with pytest.raises(SlimError, match="on several GPUs ended with status"):
            train()
    best = tmp_path / "recover" / "train" / "weights" / "best.pt"
    assert all_finite(checkpoint.load(best).model.state_dict().values())
    listener = Remembers()
    train(progress=listener)
    assert "resumes after epoch 1 of 2" in listener.said


def use_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as on two GPUs, or skip where torch or the sender of the trainer is missing."""
    pytest.importorskip("cloudpickle")
    if not torch.distributed.is_gloo_available():
        pytest.skip("needs a torch with gloo")
    from tests.helpers.two_processes import TwoProcesses

    monkeypatch.setattr("yolo_slim.training.trainer.TRAINERS", {"detect": TwoProcesses})
    monkeypatch.chdir(ROOT)


def test_several_gpus_need_cloudpickle(train: Recover, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package that sends the trainer to them is asked for before anything is trained."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SlimError, match="needs the package cloudpickle"):
        train(device="0,1")
    assert not (tmp_path / "recover").exists()

"""The outputs of one camera, made from its options and joined to its frames."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera import passwords
from yolo_slim.runtime.camera.arguments import class_ids
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.live import Live, Track
from yolo_slim.runtime.camera.outputs.broker_address import parse_address
from yolo_slim.runtime.camera.outputs.clips import Clips, ClipSettings
from yolo_slim.runtime.camera.outputs.counting import Counting
from yolo_slim.runtime.camera.outputs.jsonl import JsonLines, JsonlSettings
from yolo_slim.runtime.camera.outputs.layout import Layout, load_layout, save_layout
from yolo_slim.runtime.camera.outputs.mqtt import Figures, Mqtt
from yolo_slim.runtime.camera.outputs.prometheus import Metrics
from yolo_slim.runtime.camera.outputs.record import Context, distinct
from yolo_slim.runtime.camera.outputs.tracking import Tracker
from yolo_slim.runtime.camera.outputs.trigger import TriggerSettings
from yolo_slim.runtime.camera.outputs.worker import Faults
from yolo_slim.runtime.camera.passwords import with_password

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Outputs:
    """Everything that gets the frames besides page and window."""

    counting: Counting
    metrics: Metrics
    track: Track | None
    clips: Clips | None = None
    layout_file: Path | None = None
    live: Live | None = None
    faults: dict[str, Faults] = field(default_factory=dict)
    """By output, what it lost."""
    takers: list[Callable[[Shown], object]] = field(default_factory=list)

    def attach(self, live: Live) -> None:
        """Get the frames of a camera that hasn't started yet."""
        self.live = live
        for taker in self.takers:
            live.on_shown(taker)

    def stats(self) -> JsonObject:
        """The camera's figures; empty before there is a camera."""
        return self.live.stats().to_json() if self.live else {}

    def metrics_text(self) -> str:
        """The answer to a scrape of Prometheus."""
        lost = {name: one.lost for name, one in self.faults.items()}
        return self.metrics.text(self.stats(), self.counting.counts(), lost)

    def change_layout(self, layout: Layout) -> None:
        """Count other lines and zones from now on, and remember them.

        Raises:
            SlimError: lines without tracking, or the file can't be written.
        """
        before = self.counting.layout
        self.counting.change(layout)
        if self.layout_file is None:
            return
        try:
            save_layout(self.layout_file, layout)
        except SlimError:
            self.counting.change(before)
            raise


def make_outputs(
    args: argparse.Namespace, source: str, names: Mapping[int, str], say: Say, stack: ExitStack
) -> Outputs:
    """Open the outputs that were asked for; ``stack`` closes them.

    Raises:
        SlimError: one can't be opened.
    """
    context = Context(source=source, names=distinct(names))
    layout = load_layout(args.zones) if args.zones else Layout()
    counting = Counting(layout, say, is_tracked=args.track)
    tracker = Tracker() if args.track else None
    outputs = Outputs(
        counting=counting, metrics=Metrics(context), track=tracker.update if tracker else None, layout_file=args.zones
    )
    outputs.takers += [counting.shown, outputs.metrics.shown]
    outputs.faults["counting"] = counting.faults
    _add_lines(outputs, args, context, say, stack)
    _add_broker(outputs, args, context, say, stack)
    _add_clips(outputs, args, context, say, stack)
    return outputs


def _add_lines(outputs: Outputs, args: argparse.Namespace, context: Context, say: Say, stack: ExitStack) -> None:
    if args.jsonl is None:
        return
    settings = JsonlSettings(target=args.jsonl, rotate_mb=args.rotate_mb)
    lines = JsonLines(settings, context, say, extra=outputs.counting.counts)
    stack.callback(lines.close)
    outputs.takers.append(lines.shown)
    outputs.faults["jsonl"] = lines.faults


def _add_broker(outputs: Outputs, args: argparse.Namespace, context: Context, say: Say, stack: ExitStack) -> None:
    if args.mqtt is None:
        return
    figures = Figures(stats=outputs.stats, counts=outputs.counting.counts)
    broker = Mqtt(parse_address(with_password(args.mqtt, passwords.BROKER)), context, figures, say)
    stack.callback(broker.close)
    outputs.takers.append(broker.shown)
    outputs.counting.on_event(broker.event)
    outputs.faults["mqtt"] = broker.faults


def _add_clips(outputs: Outputs, args: argparse.Namespace, context: Context, say: Say, stack: ExitStack) -> None:
    if args.clips is None and args.no_page:
        return
    # The page offers the last seconds also where no folder was given: until the end, in a temporary one.
    folder = args.clips or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yolo-slim-clips-")))
    layout = outputs.counting.layout
    settings = ClipSettings(
        folder=folder, trigger=_trigger(args, context.names, layout), anchor=layout.anchor,
        seconds=args.clip_seconds, budget_mb=args.clip_budget_mb,
    )  # fmt: skip
    outputs.clips = Clips(settings, context, say)
    stack.callback(outputs.clips.close)
    outputs.takers.append(outputs.clips.shown)
    outputs.faults["clips"] = outputs.clips.faults


def _trigger(args: argparse.Namespace, names: Mapping[int, str], layout: Layout) -> TriggerSettings | None:
    """What starts a clip; None: only a request.

    Raises:
        SlimError: there is no such class or zone.
    """
    if not args.clip_on:
        return None
    zones = {zone.name: zone for zone in layout.zones}
    if args.clip_zone and args.clip_zone not in zones:
        raise SlimError(
            f"--clip-zone: there is no zone '{args.clip_zone}' in {args.zones}."
            f"{did_you_mean(args.clip_zone, list(zones))}",
            remedy="Draw it on the page first, with --zones and without --clip-zone.",
        )
    return TriggerSettings(class_ids=class_ids(args.clip_on, names, "--clip-on"), zone=zones.get(args.clip_zone))

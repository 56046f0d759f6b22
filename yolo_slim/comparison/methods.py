"""The methods of a comparison: every way to fewer MACs that is measured, and what is special about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from yolo_slim.comparison import starts
from yolo_slim.comparison.frontier import OURS
from yolo_slim.comparison.networks import NOTHING_RANDOM, Cell
from yolo_slim.comparison.starts import Place, Start
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.sweep.grid import product

CONTROL = "control"
TO_MACS = "macs"
"""The rival of a cut to milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to fewer MACs."""

    name: str
    about: str
    """One sentence for people."""
    make: Callable[[Place], Start]
    sized: bool = True
    """There is one network for every share of the MACs."""
    seeded: bool = False
    """The seed decides its start, not only its training."""
    trained: bool = True
    distilled: bool = True
    """Its training is distilled from the control; a network that begins as the control would learn from itself."""
    reference: bool = False
    """Its MACs aren't those of the others, so it can't win."""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(name=OURS, about="yolo_slim's pruning, by the settings given", make=starts.ours),
        Method(
            name=TO_MACS,
            about="our cut to the share of the MACs that takes as long as our cut to milliseconds",
            make=starts.to_macs,
        ),
        Method(
            name="uniform-l2",
            about="the common recipe: torch-pruning, L2 magnitude, the same fraction of every layer, one shot",
            make=starts.plain_l2,
        ),
        Method(
            name="random",
            about="random channels, about the same fraction of every layer",
            make=starts.random_channels,
            seeded=True,
        ),
        Method(
            name="narrow",
            about="a narrower stock network of the family, starting from the leading channels of the trained weights",
            make=starts.narrowed,
        ),
        Method(
            name="scratch",
            about="the same narrower stock network, from random weights",
            make=starts.scratch,
            seeded=True,
        ),
        Method(
            name="small-input",
            about="the unpruned network at a smaller input side",
            make=starts.small_input,
            distilled=False,
        ),
        Method(
            name="control-trained",
            about="the unpruned network, trained further for as many epochs",
            make=starts.as_given,
            sized=False,
            distilled=False,
            reference=True,
        ),
        Method(
            name=CONTROL,
            about="the unpruned network as it was given",
            make=starts.as_given,
            sized=False,
            trained=False,
            reference=True,
        ),
    )
}
"""Every method by name, in the order of the tables."""
DEFAULT_METHODS = tuple(name for name in METHODS if name not in ("control-trained", TO_MACS))


def require_methods(names: Sequence[str], *, in_ms: bool = False) -> list[str]:
    """Check the methods that are asked for; ours and the control always take part.

    Args:
        names: the methods.
        in_ms: ours is cut to milliseconds; then its rival takes part too.

    Returns:
        Their names in the order of the tables.

    Raises:
        SlimError: names that no method has.
    """
    unknown = [f"{name}: no such method.{did_you_mean(name, list(METHODS))}" for name in names if name not in METHODS]
    if unknown:
        raise SlimError("Some methods don't exist.", culprits=unknown, remedy=f"Methods: {', '.join(METHODS)}.")
    if TO_MACS in names and not in_ms:
        raise SlimError(
            f"The method {TO_MACS} takes as long as a cut to milliseconds, but no such budget is given.",
            remedy="Give --target-fps or --latency-ms, or leave it out of --methods.",
        )
    always = {OURS, CONTROL, TO_MACS} if in_ms else {OURS, CONTROL}
    return [name for name in METHODS if name in {*names, *always}]


def cells_of(methods: Iterable[str], removed: Sequence[float], seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield the networks that methods, sizes and seeds ask for."""
    for method in (METHODS[name] for name in methods):
        axes = {"removed": removed if method.sized else [0.0], "seed": seeds if method.trained else [NOTHING_RANDOM]}
        for values in product(**axes):
            yield Cell(method=method.name, **values)


def table_order(cell: Cell) -> tuple[int, float, int]:
    """Place of a cell in the tables: by method, size and seed."""
    return list(METHODS).index(cell.method), cell.removed, cell.seed

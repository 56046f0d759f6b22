"""Labels of channels, and tensors that bring them through a forward pass.

Channels with equal labels are kept or removed together. A :class:`LabelledTensor` passes every torch call that it meets
to the function that :func:`follow_calls` names, which says what the call does to the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Labels = np.ndarray
"""One integer label a channel: shape (C,), int64."""


class UnionFind:
    """Labels of which some are known to be the same (disjoint sets; Tarjan 1975)."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def new(self, count: int) -> Labels:
        """Make so many labels that nothing else has."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count, dtype=np.int64)

    def __len__(self) -> int:
        """How many labels were made."""
        return len(self._parent)

    def root(self, label: int) -> int:
        """The one label that stands for all that are the same as this one."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def merge(self, first: Labels, second: Labels) -> None:
        """Make two arrays of labels the same, element by element."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            # The smaller label stays the root: results must not depend on the order of merges.
            low, high = sorted((self.root(a), self.root(b)))
            self._parent[high] = low

    def roots(self, labels: Labels) -> Labels:
        """Apply :meth:`root` to every element."""
        return np.array([self.root(label) for label in labels.tolist()], dtype=np.int64)


@dataclass(frozen=True)
class Call:
    """One call of a torch function, after it ran."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    @property
    def labels(self) -> Labels | None:
        """Labels of the first argument, None where it has none."""
        return labels_of(self.args[0]) if self.args else None

    def inputs(self) -> Iterator[Any]:
        """Everything the function was given, nested values one by one."""
        return flat([self.args, self.kwargs])

    def argument(self, key: str, position: int, default: Any) -> Any:
        """An argument that may be given by its name or its position."""
        return self.kwargs.get(key, self.args[position] if len(self.args) > position else default)

    def dimension(self, position: int, default: int, ndim: int) -> int:
        """The argument ``dim``, counted from the front."""
        return int(self.argument("dim", position, default)) % max(ndim, 1)


# A global of the module: torch calls __torch_function__ on the class, so a trace can't be an argument.
_FOLLOWERS: list[Callable[[Call], Any]] = []


@contextmanager
def follow_calls(follow: Callable[[Call], Any]) -> Iterator[None]:
    """Let ``follow`` see every call on a labelled tensor inside the block; what it returns is the call's result."""
    _FOLLOWERS.append(follow)
    try:
        yield
    finally:
        _FOLLOWERS.pop()


class LabelledTensor(torch.Tensor):
    """A tensor whose channels (dimension 1) have labels; without ``labels`` they are no longer known."""

    labels: Labels

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        """Run ``func`` on plain tensors, then move the labels as it moves channels."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            # Inside the block too: the follower's own calls on tensors must not be followed.
            return _FOLLOWERS[-1](Call(getattr(func, "__name__", str(func)), args, kwargs or {}, result))


def label(tensor: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Put labels on the channels of a tensor."""
    labelled = tensor.as_subclass(LabelledTensor)
    labelled.labels = labels
    return labelled


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without labels, for arithmetic that isn't to be followed."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor)


def labels_of(value: Any) -> Labels | None:
    """A value's labels, None where it has none."""
    return value.labels if isinstance(value, LabelledTensor) and hasattr(value, "labels") else None


def unlabelled(value: Any) -> Any:
    """Tensors whose later calls are still seen, though their channels are no longer known."""
    if isinstance(value, (list, tuple)):
        # Other named tuples can't be rebuilt from a list; torch.max returns one that can.
        rebuilt = type(value) in (list, tuple) or type(value).__module__ == "torch.return_types"
        return type(value)([unlabelled(item) for item in value]) if rebuilt else value
    return value.as_subclass(LabelledTensor) if type(value) in (torch.Tensor, LabelledTensor) else value


def flat(value: Any) -> Iterator[Any]:
    """The leaves of nested lists, tuples and dictionaries."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flat(item)
    else:
        yield value

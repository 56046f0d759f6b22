"""A picture that knows for every pixel which sign is seen there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolo_slim.datasets.quickstart.drawing import Colour, Image, Rng

SUPERSAMPLE = 2
MIN_VISIBLE = 0.55
"""A sign that shows less than this part of its area is not drawn; nothing may be painted over a sign beyond it."""


@dataclass
class Scene:
    """A picture in the making, at ``SUPERSAMPLE`` times the final size.

    canvas: (S, S, 3) uint8 BGR; owner: (S, S) int16, 0 or 1 + the index of the sign seen at that pixel.
    """

    rng: Rng
    canvas: Image
    owner: NDArray[np.int16]
    class_ids: list[int] = field(default_factory=list)
    areas_px: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Width and height in canvas pixels."""
        return self.canvas.shape[0]

    def hides_too_much(self, mask: NDArray[np.bool_], where: tuple[slice, slice]) -> bool:
        """Whether painting over ``mask`` would leave less than ``MIN_VISIBLE`` of any sign."""
        covered = np.bincount(self.owner[where][mask], minlength=len(self.areas_px) + 1)[1:]
        if not covered.any():
            return False
        # Counted only where something is hidden: this reads the complete picture.
        seen = np.bincount(self.owner.ravel(), minlength=len(self.areas_px) + 1)[1:]
        return bool(np.any((seen - covered < MIN_VISIBLE * np.array(self.areas_px)) & (covered > 0)))

    def cover(self, mask: Image, colour: Colour | Image) -> bool:
        """Paint ``mask`` ((S, S) uint8) in one colour or from an (S, S, 3) image, unless it hides a sign too much."""
        solid = mask > 127
        everywhere = (slice(None), slice(None))
        if self.hides_too_much(solid, everywhere):
            return False
        self.canvas[solid] = colour[solid] if isinstance(colour, np.ndarray) else colour
        self.owner[solid] = 0
        return True

    def paste(self, face: Image, where: tuple[slice, slice], class_id: int | None, area_px: float) -> bool:
        """Blend an (h, w, 4) face into the canvas as a sign (or as a distractor, without class)."""
        solid = face[..., 3] > 127
        # The face is cropped at the border, so a sign that is mostly outside has too few solid pixels.
        if np.count_nonzero(solid) < MIN_VISIBLE * area_px or self.hides_too_much(solid, where):
            return False
        alpha = face[..., 3:].astype(np.float32) / 255
        blended = self.canvas[where] * (1 - alpha) + face[..., :3] * alpha
        self.canvas[where] = np.rint(blended).astype(np.uint8)
        self.owner[where][solid] = 0 if class_id is None else len(self.class_ids) + 1
        if class_id is not None:
            self.class_ids.append(class_id)
            self.areas_px.append(area_px)
        return True

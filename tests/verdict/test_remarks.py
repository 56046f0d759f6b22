"""What a result says besides its figures."""

from __future__ import annotations

from yolo_slim.verdict.remarks import lost_by_recovery


def test_a_recovery_that_cost_map_is_said() -> None:
    """Too few epochs leave less than the cut alone had; one that gained is silent, and so is a ladder without one."""
    (note,) = lost_by_recovery(pruned=0.47, recovered=0.44)
    assert "from 0.4700 to 0.4400" in note
    for pruned, recovered in ((0.47, 0.47), (0.47, None), (None, 0.44)):
        assert not lost_by_recovery(pruned, recovered)

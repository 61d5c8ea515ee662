"""What a spec asks for without effect."""

from __future__ import annotations

from sweep.spec.fields import Spec


def without_effect(spec: Spec) -> list[str]:
    """A note for each field of a spec that adds or changes no cell."""
    controls, notes = spec.controls, []
    if spec.normalisations != ["none"] and "global" not in spec.scopes and not controls.widths_of:
        notes.append(
            "normalisations has no effect: only the scope global and controls.widths_of compare "
            "the scores of different layers"
        )
    if controls.widths_of and any(schedule.steps > 1 for schedule in spec.schedules):
        notes.append("controls.widths_of has cells of the schedule one_shot alone")
    if controls.ratios is not None and not (controls.widths_of or controls.scratch):
        notes.append("controls.ratios has no effect without controls.widths_of or scratch")
    if not controls.scratch:
        notes += [
            f"controls.widths_of {reference.label} adds no cells: no other metric is in metrics"
            for reference in controls.widths_of
            if spec.metrics == [reference]
        ]
    return notes

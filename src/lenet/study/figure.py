"""A sweep as a figure, from its record."""

from typing import TYPE_CHECKING, Any

from lenet.results.plots import TRAIN_COLOUR, new_figure
from lenet.schema import SweepPoint, SweepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def sweep_figure(record: SweepRecord) -> "Figure":
    """Draw validation accuracy against the first field, a line for each setting of the others."""
    field, *others = record.fields
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    values = list(dict.fromkeys(point.values[field] for point in record.points))
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places: dict[Any, float] = {v: v if is_number else i for i, v in enumerate(values)}
    lines: dict[str, list[SweepPoint]] = {}
    for point in record.points:
        label = ", ".join(f"{name} {point.values[name]}" for name in others)
        lines.setdefault(label, []).append(point)
    for label, points in lines.items():
        _draw_line(axes, label, [(places[p.values[field]], p) for p in points if p.summary])
    if is_number and min(values) > 0 and max(values) / min(values) >= 4:
        axes.set_xscale("log")
    axes.set_xticks(list(places.values()), [f"{v:g}" if is_number else str(v) for v in values])
    axes.minorticks_off()
    if len(lines) > 1:
        axes.legend()
    seeds = len(record.seeds)
    axes.set(
        title=f"{record.recipe_name}: validation accuracy, "
        + ("one seed" if seeds == 1 else f"mean, 95 % interval and each of {seeds} seeds"),
        xlabel=field,
        ylabel="Accuracy, %",
    )
    return figure


def _draw_line(axes: "Axes", label: str, points: list[tuple[float, SweepPoint]]) -> None:
    accuracies = [point.summary["val_accuracy"] for _, point in points]
    places = [place for place, _ in points]
    half = [100 * (a.interval[1] - a.mean) if a.n > 1 else 0.0 for a in accuracies]
    colour = None if label else TRAIN_COLOUR
    line = axes.errorbar(
        places, [100 * a.mean for a in accuracies], half, fmt="o-", capsize=4, color=colour,
        label=label,
    )  # fmt: skip
    for place, point in points:
        each = [100 * (run.val_accuracy or 0.0) for run in point.runs]
        axes.plot([place] * len(each), each, ".", color=line.lines[0].get_color(), alpha=0.4)

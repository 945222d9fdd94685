"""The figure of a sweep."""

from typing import TYPE_CHECKING, Any

from lenet.results.plots import TRAIN_COLOUR, axes_figure
from lenet.schema import StudyRecord, SweepRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sweep_figure(record: SweepRecord) -> "Figure":
    """Draw validation accuracy against the first field, a line for each setting of the others."""
    field, *others = record.fields
    figure, axes = axes_figure()
    values = list(dict.fromkeys(study.recipe[field] for study in record.studies.values()))
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places: dict[Any, Any] = {v: v if is_number else i for i, v in enumerate(values)}
    lines: dict[str, list[tuple[float, StudyRecord]]] = {}
    for study in record.studies.values():
        label = ", ".join(f"{name} {study.recipe[name]}" for name in others)
        lines.setdefault(label, [])
        if study.runs:
            lines[label].append((places[study.recipe[field]], study))
    for label, points in lines.items():
        accuracies = [study.summary["val_accuracy"] for _, study in points]
        half = [100 * (a.interval[1] - a.mean) if a.n > 1 else 0.0 for a in accuracies]
        line = axes.errorbar(
            [place for place, _ in points],
            [100 * a.mean for a in accuracies],
            half,
            fmt="o-",
            capsize=4,
            color=None if label else TRAIN_COLOUR,
            label=label,
        )
        for place, study in points:
            each = [100 * (run.val_accuracy or 0.0) for run in study.runs]
            colour = line.lines[0].get_color()
            axes.plot([place] * len(each), each, ".", color=colour, alpha=0.4)
    numbers = list(places.values())
    if is_number and min(numbers) > 0 and max(numbers) / min(numbers) >= 4:
        axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{v:g}" if is_number else str(v) for v in values])
    axes.minorticks_off()
    if len(lines) > 1:
        axes.legend()
    num_seeds = max(len(study.seeds) for study in record.studies.values())
    shown = "one seed" if num_seeds == 1 else f"mean, 95 % interval and each of {num_seeds} seeds"
    axes.set(
        title=f"{record.recipe_name}: validation accuracy, {shown}",
        xlabel=field,
        ylabel="Accuracy, %",
    )
    return figure

"""The tables of docs/reading.md, and the README's line of what is misread."""

from collections.abc import Callable
from statistics import mean

from pages.sources import percent, read_benchmark

WAYS = ("segment", "sweep")


def strings_table() -> str:
    """Strings of five digits, both ways of reading."""
    record = read_benchmark("reading")["strings"]
    lines = [
        "| gaps, pixels | cut: strings misread, % | digits, % | sweep: strings misread, % | "
        "digits, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, ways in record["error"].items():
        cells = [f"{100 * ways[way][of]:.1f}" for way in WAYS for of in ("strings", "digits")]
        lines.append(f"| {name.removeprefix('gaps of ')} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{record['num_each']} strings of {record['length']} MNIST test digits each. A digit's "
        "error is the edit distance (digits put in, left out or changed) to the true string, per "
        "true digit.",
    ]
    return "\n".join(lines)


def scenes_table() -> str:
    """Pictures of one digit, by kind."""
    record = read_benchmark("reading")["scenes"]
    found = record["accuracy"]
    return (
        "| " + " | ".join(["", *found, "all"]) + " |\n"
        "|" + " --- |" * (len(found) + 2) + "\n"
        "| "
        + " | ".join(["read right, %", *(f"{100 * a:.1f}" for a in found.values())])
        + f" | {100 * mean(found.values()):.1f} |\n\n"
        f"{record['num_each']} pictures of each kind, from MNIST's test images."
    )


def rejection_line() -> str:
    """What is read right of all, and of those that the model is surest of."""
    record = read_benchmark("reading")
    curve = record["rejection"]
    place = min(range(len(curve["error"])), key=lambda i: abs(curve["share_rejected"][i] - 0.01))
    return (
        f"{percent(record['test_accuracy'])} % of MNIST's test images are read right. When the "
        f"least sure {percent(curve['share_rejected'][place])} % are rejected, "
        f"{percent(curve['error'][place])} % of the rest are misread."
    )


def misread_line() -> str:
    """How sure a number is, for the README."""
    error = read_benchmark("reading")["strings"]["error"]
    apart, touching = (
        100 * error[name]["segment"]["strings"]
        for name in ("gaps of 1 to 4", "touching, gaps of -1 to 0")
    )
    return (
        f"Of five-digit strings of MNIST's test digits {apart:.0f} % are misread where the digits "
        f"stand apart, {touching:.0f} % where they touch."
    )


def hostile_table() -> str:
    """What files that are made to do harm cost."""
    rows = read_benchmark("pictures")["hostile"]
    lines = [
        "| file | `lenet predict` | s | MB | `lenet read` | s | MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for predicted, read in zip(rows[::2], rows[1::2], strict=True):
        cells = [
            f"{row['answer'].replace('|', '/')} | {row['seconds']:.1f} | {row['peak_mb']:.0f}"
            for row in (predicted, read)
        ]
        lines.append(f"| {predicted['file']} | {' | '.join(cells)} |")
    lines += [
        "",
        "Each alone in a process that starts, reads it and ends: seconds of the processor, and "
        "the most memory. Each said one line.",
    ]
    return "\n".join(lines)


def photograph_table() -> str:
    """The times of a photograph, and of a folder of ordinary pictures."""
    record = read_benchmark("pictures")
    photo, folder = record["photograph"], record["folder"]
    lines = [
        "| 12 megapixels | MB | a further one, ms of the processor | of which decoding | "
        "of the clock | alone, s of the processor | of the clock | memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in ("JPEG", "PNG"):
        row = photo[kind]
        cpu, wall, cold, clock = (
            row[key] for key in ("warm_cpu_ms", "warm_ms", "cold_cpu_s", "cold_s")
        )
        lines.append(
            f"| {row['num_pictures']} {kind}s | {row['megabytes']['median']:.1f} | "
            f"{cpu['median']:.0f} ({cpu['quarter']:.0f} to {cpu['three_quarters']:.0f}) | "
            f"{row['decode_cpu_ms']['median']:.0f} | "
            f"{wall['median']:.0f} (least {wall['least']:.0f}) | {cold['median']:.2f} | "
            f"{clock['median']:.2f} | {row['peak_mb']:.0f} |"
        )
    lines += [
        "",
        f"Medians of {photo['rounds']} rounds, and the middle half, of one thread. The machine was "
        "doing other work, which the clock counts and the processor's time does not. A folder of "
        f"{folder['num_pictures']} JPEGs of {folder['longer_side']:,} pixels takes "
        f"{folder['cpu_ms']['median']:.0f} ms of the processor each, of which decoding is "
        f"{100 * folder['decode_share']:.0f} %.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "strings": strings_table,
    "scenes": scenes_table,
    "rejection": rejection_line,
    "misread": misread_line,
    "hostile": hostile_table,
    "photograph": photograph_table,
}

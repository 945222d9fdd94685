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
    """What must be rejected for an error of half a percent."""
    record = read_benchmark("reading")
    share = record["rejection"]["rejected_for_half_a_percent"]
    return (
        f"{percent(record['test_accuracy'])} % of MNIST's test images are read right. To err on "
        f"0.5 % of the rest, {percent(share)} % must be rejected."
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


def pictures_table() -> str:
    """A photograph's time, and what files that are made to do harm cost."""
    record = read_benchmark("pictures")
    lines = [
        "| file | answer | processor time, s | memory, MB |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in record["hostile"].items():
        lines.append(f"| {name} | {row['answer']} | {row['seconds']:.1f} | {row['peak_mb']:.0f} |")
    photo = record["photograph"]
    lines += [
        "",
        f"Each alone in a process that starts, reads it and ends. A JPEG of "
        f"{photo['megapixels']:.0f} megapixels: {photo['cold_s']:.2f} s with the start, "
        f"{1000 * photo['warm_s']:.0f} ms for each further one (median of {photo['rounds']}, "
        f"fastest {1000 * photo['fastest_s']:.0f}), of which "
        f"{1000 * photo['decode_s']:.0f} are its decoding.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "strings": strings_table,
    "scenes": scenes_table,
    "rejection": rejection_line,
    "misread": misread_line,
    "pictures": pictures_table,
}

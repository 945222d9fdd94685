"""The table of docs/page.md."""

from collections.abc import Callable

from pages.sources import read_benchmark


def page_table() -> str:
    """What was measured of the page."""
    record = read_benchmark("page")
    pictures, pen, old = record["pictures"], record["pen"], record["details"]["with_1998"]["parity"]
    num = pictures["num_pictures"]
    images = f"{record['parity']['num_images']:,}"
    lines = [
        "| | |",
        "| --- | --- |",
        f"| labels that differ from PyTorch's, of {images} test images | "
        f"{record['parity']['num_labels_differ']} |",
        f"| of the network of 1998 | {old['num_labels_differ']} |",
        f"| largest difference of a logit | {record['parity']['largest_logit_difference']:.0e}, "
        f"of up to {record['parity']['largest_logit']:.0f} |",
        f"| of {num} pictures of digits, the same 28x28 as Python's to the byte | "
        f"{pictures['equal']} |",
        f"| to one level of 255 | {pictures['within_one_level']} |",
        f"| read the same | {pictures['read_the_same']} |",
        f"| pen's movement to changed bars, median of {pen['num_moves']} | "
        f"{pen['median_ms']:.0f} ms |",
        f"| nine of ten within | {pen['p90_ms']:.0f} ms |",
        f"| size, both networks and {record['details']['test_images']} test images inside | "
        f"{record['num_bytes'] / 1e3:.0f} kB |",
        "",
        f"The model of the package beside `lecun1998`, {record['details']['run_in']} without a "
        f"window or a graphics processor, {record['environment']['cpu']}, two cores.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "page": page_table,
}

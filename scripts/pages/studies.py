"""The tables of docs/studies.md: studies, torchrun and Ray."""

from collections.abc import Callable

from pages.sources import percent, read_benchmark


def study_time_line() -> str:
    """A study against the same runs one after the other."""
    record = read_benchmark("study")
    base = "single runs, without"
    found = record["ratios"]["study"][base]
    clock, cpu = found["seconds"], found["cpu_s"]
    loads = [each["load_before"] for way in record["rounds"].values() for each in way]
    return (
        f"{record['seeds']} seeds of `default` at {record['epochs']} epochs as a study take "
        f"**{clock['median']:.2f}** of the time ({clock['low']:.2f} to {clock['high']:.2f} in "
        f"{clock['n']} rounds, in turns) of single runs one after the other without their "
        f"reports, start-up included; in CPU time {cpu['median']:.2f} ({cpu['low']:.2f} to "
        f"{cpu['high']:.2f}), at a load of {min(loads):.1f} to {max(loads):.1f} before each on "
        f"{record['environment']['num_cores']} cores."
    )


def torchrun_table() -> str:
    """One run shared out in several ways."""
    record = read_benchmark("torchrun")
    lines = [
        "| | test accuracy, % | test labels that differ | largest difference of a logit | "
        "of a weight | sessions |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in record.items():
        if not isinstance(row, dict) or "test_accuracy" not in row:
            continue
        lines.append(
            f"| {name} | {percent(row['test_accuracy'])} | {row['labels_that_differ']} | "
            f"{row['largest_logit_difference']:.1e} | {row['largest_weight_difference']:.1e} | "
            f"{row['num_sessions']} |"
        )
    same = "are equal" if record["killed equals not killed"] else "differ"
    lines += [
        "",
        f"{record['epochs']} epochs of `default`, seed 0, against one process; a session more is "
        f"one that was killed and went on. The model files of two processes, one of them killed "
        f"or not, {same} byte for byte.",
    ]
    return "\n".join(lines)


def ray_study_line() -> str:
    """A study on Ray that lost a worker."""
    record = read_benchmark("cluster")["study"]
    same = "equal, times apart" if record["records_equal"] else "not equal"
    return (
        f"A study of {record['seeds']} seeds of `fast` on {record['workers_at_the_kill']} workers, "
        f"one killed with SIGKILL half-way, and one without Ray: records {same}; model files "
        f"equal, {record['model_files_equal']} of {record['seeds']}."
    )


def ray_reading_line() -> str:
    """A batch reading on Ray that was killed and resumed."""
    record = read_benchmark("cluster")["read"]
    kept = "none of them written again" if record["parts_left_untouched"] else "some written again"
    return (
        f"{record['pictures']:,} pictures, MNIST's digits as PNG in Parquet, on Ray, all of it "
        f"killed with SIGKILL after {record['parts_at_the_kill']} of {record['parts']} parts, and "
        f"resumed ({kept}): {record['rows']:,} rows, {record['different_rows']:,} different ones; "
        f"{record['rows_that_differ']} of them differ from those of one process "
        f"({record['labels_right']:,} labels are right)."
    )


def reading_speed_table() -> str:
    """Pictures a second."""
    record = read_benchmark("cluster")["speed"]
    lines = ["| | pictures/s | with start-up, s |", "| --- | --- | --- |"]
    for name, row in record["median"].items():
        each = [one["pictures_per_s"] for one in record["rounds"][name]]
        lines.append(
            f"| {name} | {row['pictures_per_s']:,.0f} ({min(each):,.0f} to {max(each):,.0f}) | "
            f"{row['seconds']:.1f} |"
        )
    lines += [
        "",
        f"{record['pictures']:,} pictures, median of {len(each)} rounds in turns, "
        f"{record['environment']['num_cores']} cores.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "study_time": study_time_line,
    "torchrun": torchrun_table,
    "ray_study": ray_study_line,
    "ray_reading": ray_reading_line,
    "reading_speed": reading_speed_table,
}

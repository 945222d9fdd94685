"""The tables of docs/speed.md, and the README's short one."""

from collections.abc import Callable
from statistics import NormalDist, mean, median, stdev

from lenet.records import read_study_record
from pages.sources import RECORDS, percent, read_benchmark

DISCIPLINES = {
    "train": "an epoch with its scoring, batch 32",
    "gradients": "gradients alone, batch 64",
    "infer 1": "logits, 1 image at a time",
    "infer 1000": "logits, 1000 at a time",
}


def speed_table() -> str:
    """The contestants of `lenet bench`."""
    record = read_benchmark("bench")
    lines = [
        "| | | images/s (median) | slowest to fastest | native is faster by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for r in record["results"]:
        lines.append(
            f"| {DISCIPLINES[r['discipline']]} | {r['name']} | {r['images_per_s']:,.0f} | "
            f"{r['slowest']:,.0f} to {r['fastest']:,.0f} | {r['ratio']:.1f} |"
        )
    machine = record["environment"]
    lines += [
        "",
        f"{record['num_threads']} threads, {record['rounds']} rounds, {machine['cpu']}, torch "
        f"{machine['packages']['torch']}. A float32 matrix product of 1024 x 1024 ran at "
        f"{record['matrix_gflops']:.0f} GFLOP/s in the same rounds; the gradients at batch 64 at "
        f"{100 * record['share_of_matrix_peak']:.0f} % of that.",
    ]
    return "\n".join(lines)


def speed_short_table() -> str:
    """The native engine alone, and how many times the others' speed that is."""
    record = read_benchmark("bench")
    peers = read_benchmark("peers")["ratios"]
    lines = ["| | images/s | times as fast as |", "| --- | --- | --- |"]
    for discipline, title in DISCIPLINES.items():
        rows = [r for r in record["results"] if r["discipline"] == discipline]
        others = [r for r in rows if not r["name"].startswith("native")]
        ratios = ", ".join(f"{r['name']} {r['ratio']:.1f}" for r in others)
        lines.append(f"| {title} | {rows[0]['images_per_s']:,.0f} | {ratios} |")
    ratios = ", ".join(f"{n} {r:.1f}" for n, r in peers.items() if not n.startswith("lenet"))
    runs = read_benchmark("peers")["results"]["lenet, native engine"]
    speed = 60_000 / median(run["seconds"] for run in runs)
    lines.append(f"| an epoch, training alone | {speed:,.0f} | {ratios} |")
    return "\n".join(lines)


def one_pass_line() -> str:
    """What is left of the notebook's epoch where the training pass is scored as it runs."""
    results = {(r["discipline"], r["name"]): r for r in read_benchmark("bench")["results"]}
    ours = results["train", "native, one pass"]["images_per_s"]
    theirs = results["train", "the notebook's way"]["images_per_s"]
    return (
        f"With the training images' figures taken from the training pass, as `training_loop` does "
        f"(running ones), the same four figures an epoch come {ours / theirs:.1f} times as fast as "
        f"the notebook's way."
    )


def peers_table() -> str:
    """Programs in C and C++, one epoch each."""
    record = read_benchmark("peers")
    lines = [
        "| one epoch, training alone | seconds (median) | least to most | "
        "test accuracy after it, % | lenet is faster by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, runs in record["results"].items():
        seconds = sorted(run["seconds"] for run in runs)
        lines.append(
            f"| {name} | {median(seconds):.2f} | {seconds[0]:.2f} to {seconds[-1]:.2f} | "
            f"{percent(mean(run['accuracy'] for run in runs))} | {record['ratios'][name]:.1f} |"
        )
    lines += ["", f"{record['threads']} threads, {record['rounds']} rounds in turns."]
    return "\n".join(lines)


def accuracy_time_table() -> str:
    """Training time of `fast` and the accuracy it buys."""
    record = read_benchmark("time_to_accuracy")
    lines = [
        "| | seconds (median) | quicker by | test accuracy, mean and 95 % interval, % | least, % | "
        "seeds at 98.89 % or more | at 99.00 % or more |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    report = read_study_record(RECORDS / "report.json").summary["test_accuracy"]
    notebook_s = 15 * median(record["notebook_epoch_s"])
    lines.append(
        f"| the notebook's way, 15 epochs | {notebook_s:.0f} | 1 | {percent(report.mean)} "
        f"({' to '.join(map(percent, report.interval))}; `report`, {report.n} seeds) | "
        f"{percent(report.min)} | | |"
    )
    for row in record["summary"]:
        half = NormalDist().inv_cdf(0.975) * row["std"] / record["seeds"] ** 0.5
        reached = [f"{n} of {record['seeds']}" for n in row["reached"].values()]
        lines.append(
            f"| `fast`, {row['epochs']} epoch{'s' * (row['epochs'] > 1)} | {row['seconds']:.2f} | "
            f"{row['times_quicker']:.0f} | {percent(row['mean'])} "
            f"({percent(row['mean'] - half)} to {percent(row['mean'] + half)}) | "
            f"{percent(row['min'])} | {reached[0]} | {reached[1]} |"
        )
    return "\n".join(lines)


def growth_table() -> str:
    """How time and memory grow."""
    lines = [
        "| images | batch | threads | seconds an epoch | us an image | memory added, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in read_benchmark("growth")["cases"]:
        lines.append(
            f"| {case['num_images']:,} | {case['batch_size']} | {case['num_threads']} | "
            f"{case['seconds']:.2f} | {case['seconds'] / case['num_images'] * 1e6:.1f} | "
            f"{case['added_mb']:.1f} |"
        )
    return "\n".join(lines)


def step_table() -> str:
    """The parts of a training step."""
    record = read_benchmark("step")
    found = record["microseconds"]
    whole = found["a whole step"]
    parts = ("gradients and Adam, in one call", "drawing the batch")
    rest = whole - sum(found[name] for name in parts)
    lines = ["| of a step | us | share, % |", "| --- | --- | --- |"]
    lines += [f"| {name} | {found[name]:.0f} | {100 * found[name] / whole:.0f} |" for name in parts]
    lines.append(
        f"| the loop, and caches colder than alone | {rest:.0f} | {100 * rest / whole:.0f} |"
    )
    lines.append(f"| a whole step | {whole:.0f} | 100 |")
    others = [name for name in found if name.endswith("alone")]
    images = [name for name in found if name.endswith("an image")]
    beside = [f"{name}: {found[name]:.0f} us" for name in others]
    beside += [f"{name}: {found[name]:.2f} us" for name in images]
    lines.append("")
    lines.append(
        f"Batch {record['batch_size']}, {record['num_threads']} threads. {'; '.join(beside)}."
    )
    return "\n".join(lines)


def engines_table() -> str:
    """Both engines under the same seeds."""
    record = read_benchmark("engines")
    lines = [
        "| engine | seeds | test accuracy, mean, % | sd | each |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("native", "torch"):
        if f"{name}_test_accuracy" not in record:
            return f"Losses of {record['steps']} steps only."
        values = record[f"{name}_test_accuracy"]
        lines.append(
            f"| {name} | {len(values)} | {percent(mean(values))} | {percent(stdev(values))} | "
            f"{', '.join(map(percent, values))} |"
        )
    worst = max(record["largest_relative_difference"])
    lines += [
        "",
        f"Over the first {record['steps']} steps the losses differ by at most {worst:.1e} of "
        f"their size, in any of {len(record['largest_relative_difference'])} seeds.",
    ]
    return "\n".join(lines)


def instructions_table() -> str:
    """What callgrind counts."""
    record = read_benchmark("callgrind")
    titles = {
        "lenet5_train_32": "training step, batch 32",
        "lenet5_infer_1": "logits, 1 image",
        "lenet5_infer_1000": "logits, 1000 images",
    }
    lines = [
        "| case | instructions | operations of the layers' multiply-adds | "
        "operations an instruction |",
        "| --- | --- | --- | --- |",
    ]
    for key, title in titles.items():
        case = record[key]
        lines.append(
            f"| {title} | {case['instructions']:,} | {case['flop']:,} | "
            f"{case['flop_per_instruction']:.1f} |"
        )
    shares = list(record["shares_of_training_step"].items())[:9]
    lines += [
        "",
        "Of a training step's instructions: "
        + ", ".join(f"`{name}` {100 * share:.0f} %" for name, share in shares)
        + ".",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "speed": speed_table,
    "speed_short": speed_short_table,
    "one_pass": one_pass_line,
    "peers": peers_table,
    "accuracy_time": accuracy_time_table,
    "growth": growth_table,
    "step": step_table,
    "engines": engines_table,
    "instructions": instructions_table,
}

"""Write the tables of README.md and docs from `records/`.

Run: `.venv/bin/python scripts/tables.py [--check]`. Each table stands between the comments
`<!-- table NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit status is 1
if a table differs from its records; a test does the same.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist, mean, median, stdev
from typing import Any

import serve_tables

from lenet.data.label_errors import MNIST_TEST_ERRORS
from lenet.recipes import RECIPES, Recipe
from lenet.records import StudyRecord, Summary, read_study_record, summarize
from lenet.report import ORIGINALS
from lenet.training import build_model

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "records"
PAGES = (
    "README.md",
    "docs/decisions.md",
    "docs/results.md",
    "docs/speed.md",
    "docs/lenet5-1998.md",
    "docs/export.md",
    "docs/page.md",
    "docs/serve.md",
    "docs/reading.md",
    "benchmarks/README.md",
)


DISCIPLINES = {
    "train": "an epoch with its scoring, batch 32",
    "gradients": "gradients alone, batch 64",
    "infer 1": "logits, 1 image at a time",
    "infer 1000": "logits, 1000 at a time",
}


def percent(share: float) -> str:
    """Return a share as the README writes it."""
    return f"{100 * share:.2f}"


def study_row(name: str, record: StudyRecord) -> str:
    """Return a study's line of the results table."""
    train, test = record.summary["train_accuracy"], record.summary["test_accuracy"]
    return (
        f"| `{name}` | {test.n} | {percent(train.mean)} | {percent(test.mean)} | "
        f"{percent(test.low)} to {percent(test.high)} | {percent(test.std)} | "
        f"{percent(test.min)} to {percent(test.max)} | "
        f"[record](records/{name}.json) |"
    )


def results_table() -> str:
    """Every study beside the figures it is compared with."""
    lines = [
        "| recipe | seeds | training accuracy, % | test accuracy, % | 95 % interval of the mean | "
        "sd | min to max | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        study_row(name, read_study_record(RECORDS / f"{name}.json"))
        for name in ("best", "default", "fast", "report", "lecun1998", "lecun1998-distorted")
        if (RECORDS / f"{name}.json").is_file()
    ]
    for title, train, test in ORIGINALS:
        lines.append(f"| {title} | 1 | {train[:5]} | {test[:5]} | - | - | - | |")
    return "\n".join(lines)


def machine_line() -> str:
    """Say on what the studies ran."""
    record = read_study_record(RECORDS / "default.json")
    machine = record.environment
    seconds = record.summary["training_s"]
    fast = read_study_record(RECORDS / "fast.json").summary["training_s"]
    idle = read_benchmark("time_to_accuracy")["summary"][-1]["seconds"]
    return (
        f"`{record.command}` on {machine['num_cores']} cores ({machine['cpu']}), torch "
        f"{machine['packages']['torch']}, Python {machine['python']}, no GPU; "
        f"a run trained for {seconds.mean:.0f} s, one of `fast` for {fast.mean:.0f} s, on one "
        f"thread of a busy machine. Idle, with both cores, `fast` takes {idle:.1f} s."
    )


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
        f"({percent(report.low)} to {percent(report.high)}; `report`, {report.n} seeds) | "
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


def error_row(title: str, paper: str, error: Mapping[str, Any]) -> str:
    """Return a line of errors in %, from a summary of errors in %."""
    return (
        f"| {title} | {paper} | {error['mean']:.2f} | {error['low']:.2f} to {error['high']:.2f} | "
        f"{error['min']:.2f} to {error['max']:.2f} | {error['n']} |"
    )


def paper_table() -> str:
    """The paper's errors beside ours."""
    lines = [
        "| error, % | paper | ours, mean | 95 % interval | min to max | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, figure, title, paper in (
        ("lecun1998", "test_accuracy", "test, 20 passes", "0.95"),
        ("lecun1998", "train_accuracy", "training, 20 passes", "0.35 (19 passes)"),
        ("lecun1998-distorted", "test_accuracy", "test, distorted", "0.8"),
    ):
        record = read_study_record(RECORDS / f"{name}.json")
        errors = [100 * (1 - run[figure]) for run in record.runs]
        lines.append(error_row(title, paper, asdict(summarize(errors))))
    for study in read_benchmark("lecun1998-sizes")["studies"]:
        paper = {"15000": "1.7", "30000": "1.14"}[study["name"]]
        lines.append(error_row(f"test, {study['title']}", paper, study["test_error"]))
    return "\n".join(lines)


def road_table() -> str:
    """The studies of the road, each a change of the one above."""
    record = read_benchmark("lecun1998-road")
    lines = [
        "| change | test error, % | 95 % interval | training error, % | seconds a run |",
        "| --- | --- | --- | --- | --- |",
    ]
    recipe = record["studies"][0]["recipe"]
    for study in record["studies"]:
        test, train = study["test_error"], study["train_error"]
        lines.append(
            f"| {study['title']} | {test['mean']:.2f} | {test['low']:.2f} to {test['high']:.2f} | "
            f"{train['mean']:.2f} | {study['training_s']['mean']:.0f} |"
        )
    lines += [
        "",
        f"{recipe['num_train']:,} images, {recipe['epochs']} epochs and {test['n']} seeds each, "
        f"`{record['command']}`, {record['environment']['cpu']}, other work on both cores.",
    ]
    return "\n".join(lines)


EXPORTS = {
    "onnx": "`onnx`: `model.onnx`",
    "torch": "`torch`: `model.pt2`",
    "int8": "`int8`: `model.int8.onnx`",
    "html": "`html`: `model.html`",
    "c, float": "`c --c-type float`: constants in flash",
    "c, int8": "`c --c-type int8`: constants in flash",
    "triton": "`triton`: the folder",
    "mlflow": "`mlflow`: the folder",
}


def exports_table() -> str:
    """Size of each export, and how near its source it is."""
    record = read_benchmark("export")
    lines = [
        "| | bytes | labels that differ, of 10,000 | accuracy, % | largest difference of a logit |",
        "| --- | --- | --- | --- | --- |",
    ]
    first = record["exports"]["onnx"]["parity"]
    lines.append(
        f"| the source: `model.safetensors` | {record['source_bytes']:,} | | "
        f"{percent(first['source_accuracy'])} | |"
    )
    for name, title in EXPORTS.items():
        row = record["exports"][name]
        parity = row["parity"]
        size = row["details"].get("flash_bytes", row["num_bytes"])
        lines.append(
            f"| {title} | {size:,} | {parity['num_labels_differ']} | "
            f"{percent(parity['accuracy'])} | {parity['largest_logit_difference']:.1g} |"
        )
    source, machine = record["source"], record["environment"]
    packages = machine["packages"]
    html = record["exports"]["html"]["details"]
    lines += [
        "",
        f"The page ran in {html['run_in']}; it holds {html['test_images']} test images"
        + (" and the network of 1998." if "with_1998" in html else "."),
        f"Recipe `{source['recipe_name']}`, seed {source['seed']}; logits are up to "
        f"{first['largest_logit']:.1f} in size. {machine['cpu']}, torch {packages['torch']}, "
        f"Python {machine['python']}.",
    ]
    return "\n".join(lines)


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


def exports_outside_table() -> str:
    """The exports read by others than `lenet export`."""
    record = read_benchmark("export")
    lines = [
        "| read by | labels that differ, of 10,000 | largest difference of a logit |",
        "| --- | --- | --- |",
    ]
    for name, runs in record["compiled"].items():
        for run in runs:
            lines.append(
                f"| {name}: {run['compiler']} | {run['num_labels_differ']} | "
                f"{run['largest_logit_difference']:.1g} |"
            )
    mlflow = record["outside"]["mlflow"]
    lines.append(
        f"| mlflow: `mlflow.pyfunc`, MLflow {mlflow['version']} | {mlflow['num_labels_differ']} | "
        f"{mlflow['largest_logit_difference']:.1g} |"
    )
    run = record["compiled"]["c, float"][0]
    client = record["outside"]["triton_config"]["tritonclient"]
    lines += [
        "",
        f"C with `{run['flags']}`, pictures from a pipe; each compiler's self-test passed. "
        f"Triton's `config.pbtxt` was parsed by the protocol buffer of tritonclient {client}.",
    ]
    return "\n".join(lines)


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


WAYS = ("segment", "sweep")


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


PUBLISHED = {
    "default": "98.89, one run (the report)",
    "report": "98.89, one run (the report); 98.72, one run (the notebook)",
    "fast": "99.04 over 30 seeds, 215,194 parameters, 1 epoch (train_mnist_fast)",
    "lecun1998": "99.05 (the paper)",
    "lecun1998-distorted": "99.2 (the paper)",
    "best": "99.26 over 5 seeds (mnist), 99.58 once (BitNetMCU); both chosen on the test images",
}
"""Test accuracies in %, as their sources give them; docs/results.md says where those are."""


def published_studies() -> dict[str, StudyRecord]:
    """Return the record of each recipe that has one."""
    paths = {name: RECORDS / f"{name}.json" for name in RECIPES}
    return {name: read_study_record(path) for name, path in paths.items() if path.is_file()}


def interval(summary: Summary) -> str:
    """Return the 95 % interval of a share's mean, where there is one."""
    return "-" if summary.n == 1 else f"{percent(summary.low)} to {percent(summary.high)}"


def images_of(record: StudyRecord) -> Summary:
    """Return a study's summary over test images."""
    assert record.test_images is not None, record.recipe_name
    return record.test_images


def accuracy_without_errors(record: StudyRecord) -> Summary:
    """Summarize accuracy on the test images whose labels nobody doubts."""
    doubted = {error.image for error in MNIST_TEST_ERRORS}
    return summarize(
        [1 - len({*run["test_wrong"]} - doubted) / (10_000 - len(doubted)) for run in record.runs]
    )


def accuracies_table() -> str:
    """Every recipe's accuracy, with and without the doubtful labels."""
    lines = [
        "| recipe | parameters | seeds | test accuracy, % | 95 % interval over seeds | "
        f"over images | sd | without the {len(MNIST_TEST_ERRORS)}, % | 95 % interval over seeds | "
        "published, % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, record in published_studies().items():
        test, cleaned = record.summary["test_accuracy"], accuracy_without_errors(record)
        model = build_model(Recipe(**record.recipe), 0)
        lines.append(
            f"| `{name}` | {sum(p.numel() for p in model.parameters()):,} | {test.n} | "
            f"{percent(test.mean)} | {interval(test)} | {interval(images_of(record))} | "
            f"{percent(test.std) if test.n > 1 else '-'} | {percent(cleaned.mean)} | "
            f"{interval(cleaned)} | {PUBLISHED.get(name, '-')} |"
        )
    return "\n".join(lines)


def making_table() -> str:
    """How each recipe's record was made."""
    lines = [
        "| recipe | command | seconds a run, mean (min to max) | machine | commit | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, record in published_studies().items():
        machine, seconds = record.environment, record.summary["training_s"]
        lines.append(
            f"| `{name}` | `{record.command}` | {seconds.mean:.0f} ({seconds.min:.0f} to "
            f"{seconds.max:.0f}) | {machine['num_cores']} cores, {machine['cpu']}, torch "
            f"{machine['packages']['torch']} | {machine['commit'][:7]} | "
            f"[record](../records/{name}.json) |"
        )
    return "\n".join(lines)


def label_errors_table() -> str:
    """The doubtful labels, and how many runs of each recipe read them as labelled."""
    studies = published_studies()
    names = " | ".join(f"`{name}`" for name in studies)
    lines = [
        f"| test image | label | or | votes: label, or, neither | {names} |",
        "| --- | --- | --- | --- |" + " --- |" * len(studies),
    ]
    for error in MNIST_TEST_ERRORS:
        agree = (
            f"{sum(error.image not in run['test_wrong'] for run in record.runs)} of "
            f"{len(record.runs)}"
            for record in studies.values()
        )
        lines.append(
            f"| {error.image} | {error.label} | {error.other} | {error.votes_label}, "
            f"{error.votes_other}, {error.votes_neither} | {' | '.join(agree)} |"
        )
    return "\n".join(lines)


def read_benchmark(name: str) -> Any:
    """Return the committed result of a benchmark."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


TABLES: dict[str, Callable[[], str]] = {
    "results": results_table,
    "accuracies": accuracies_table,
    "making": making_table,
    "label_errors": label_errors_table,
    "machine": machine_line,
    "speed": speed_table,
    "speed_short": speed_short_table,
    "one_pass": one_pass_line,
    "peers": peers_table,
    "accuracy_time": accuracy_time_table,
    "growth": growth_table,
    "step": step_table,
    "engines": engines_table,
    "instructions": instructions_table,
    "paper": paper_table,
    "road": road_table,
    "exports": exports_table,
    "exports_outside": exports_outside_table,
    "page": page_table,
    **serve_tables.TABLES,
    "strings": strings_table,
    "scenes": scenes_table,
    "rejection": rejection_line,
    "misread": misread_line,
    "pictures": pictures_table,
}


def fill(text: str) -> str:
    """Return a page with its tables made again."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write or check every page."""
    stale = 0
    for page in PAGES:
        path = ROOT / page
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after == before:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"{page}: a table differs from its records; run scripts/tables.py")
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{page}: written")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

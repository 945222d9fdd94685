"""The tables of docs/export.md."""

from collections.abc import Callable

from pages.sources import percent, read_benchmark

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


TABLES: dict[str, Callable[[], str]] = {
    "exports": exports_table,
    "exports_outside": exports_outside_table,
}

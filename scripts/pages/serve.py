"""The tables of docs/serve.md."""

from collections.abc import Callable
from typing import Any

from pages.sources import read_benchmark

SERVERS = {
    "lenet": "`lenet serve`, `/predict`",
    "lenet, binary tensors": "`lenet serve`, a binary tensor to `/v2/.../infer`",
    "fastapi": "FastAPI, no batching",
    "litserve": "LitServe",
    "litserve-batched": "LitServe, batches of up to 64 or 2 ms",
}


def serve_load_setup() -> str:
    """How the load was made."""
    record = read()
    load = record["load"]
    runs = next(iter(load["rounds"].values()))
    machine = record["environment"]
    return (
        f"{load['connections']} connections that are always busy (wrk), {len(runs)} rounds of "
        f"{runs[0]['seconds']:.0f} s each in turns, every server started anew for each; "
        f"{machine['num_cores']} cores ({machine['cpu']}), shared with wrk. Medians of the rounds; "
        "the others run the same model by torch on one thread and write no log, ours does:"
    )


def serve_load_table() -> str:
    """The servers under the same load."""
    load = read()["load"]
    ours = load["summary"]["lenet"]["requests_per_s"]
    lines = [
        "| | requests/s | least to most | p50, ms | p99, ms | failed | "
        "`lenet serve` is faster by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, title in SERVERS.items():
        row = load["summary"][name]
        rates = [run["requests_per_s"] for run in load["rounds"][name]]
        ratio = "" if name.startswith("lenet") else f"{ours / row['requests_per_s']:.1f}"
        lines.append(
            f"| {title} | {row['requests_per_s']:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | "
            f"{row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['num_failed']} | {ratio} |"
        )
    return "\n".join(lines)


def serve_clients_line() -> str:
    """The standard clients."""
    record = read()["clients"]
    triton, schema = record["triton"], record["schemathesis"]
    right = sorted({run["right"] for run in triton["runs"]})
    forms = sorted({(run["sent"], run["wanted"]) for run in triton["runs"]})
    statuses = ", ".join(schema["statuses"])
    return (
        f"The real `tritonclient[http]` sent {triton['num_digits']:,} test digits in each of "
        f"{len(forms)} forms (JSON and binary, both ways) and {len(triton['runs']) // len(forms)} "
        f"sizes: {' to '.join(f'{n}' for n in right)} of them right each time, "
        f"{triton['right_without_server']} without a server. schemathesis sent "
        f"{schema['num_cases']:,} requests made from the description: {schema['num_failures']} "
        f"answers that it does not have, no status of 500 or more (seen: {statuses})."
    )


def serve_overload_table() -> str:
    """Ten times what the server can do."""
    lines = [
        "| ten times as much as it can do | asked, 1/s | answered, 1/s | p99 of those, ms | "
        "refused (503) | p99 of those, ms | lost | before and after, 1/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in read()["overload"].items():
        storm = row["storm"]
        lines.append(
            f"| {name} | {row['asked_per_s']:,.0f} | {storm['answered_per_s']:,.0f} | "
            f"{storm['p99_ms']:,.0f} | {storm['statuses'].get('503', 0):,} | "
            f"{storm['refused_p99_ms']:,.0f} | {storm['num_lost']} | "
            f"{row['before']['answered_per_s']:,.0f} and {row['after']['answered_per_s']:,.0f} |"
        )
    return "\n".join(lines)


def serve_memory_line() -> str:
    """How memory stays."""
    samples = read()["memory"]["samples"]
    first, last = samples[0], samples[-1]
    middle = min(samples, key=lambda s: abs(s["requests"] - last["requests"] / 2))
    return (
        f"Memory over {last['requests']:,} requests of every kind: the server's process held "
        f"{first['mb'][0]:.0f} MB after the first {first['requests']:,}, {middle['mb'][0]:.0f} "
        f"after {middle['requests']:,} and {last['mb'][0]:.0f} at the end; a process that reads "
        f"pictures {first['mb'][1]:.0f}, {middle['mb'][1]:.0f} and {last['mb'][1]:.0f}. Most of "
        "the former is PyTorch, which reads the model."
    )


def serve_drain_line() -> str:
    """SIGTERM under load."""
    runs = read()["drain"]["runs"]
    answered = sum(sum(run["statuses"].values()) for run in runs)
    lost = sum(run["num_lost"] for run in runs)
    return (
        f"{len(runs)} times told to end with 64 connections busy (half of them with pictures): "
        f"{answered:,} requests answered, {lost} lost, exit status "
        f"{', '.join(str(s) for s in sorted({run['exit_status'] for run in runs}))}. A request "
        "counts as lost if its connection had been made and no whole answer came."
    )


def serve_hostile_table() -> str:
    """What came back to attacks."""
    record = read()["hostile"]
    lines = [
        "| attack | answer | seconds | slowest answer to somebody else meanwhile, ms |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in record["attacks"].items():
        found = row["result"]
        shown = (
            ", ".join(f"{status} ({n} times)" for status, n in found.items())
            if isinstance(found, dict)
            else found
        )
        lines.append(
            f"| {name} | {shown} | {row['seconds']:.1f} | {row['others']['slowest_ms']:.0f} |"
        )
    others = [row["others"] for row in record["attacks"].values()]
    asked, answered = (sum(o[key] for o in others) for key in ("asked", "answered"))
    peaks = record["peak_mb"]
    lines += [
        "",
        f"Meanwhile {answered:,} of {asked:,} requests of somebody else were answered; the server "
        f"took at most {peaks[0]:.0f} MB, its processes for pictures {max(peaks[1:]):.0f}, and "
        f"{'lived' if record['is_alive'] else 'died'}.",
    ]
    return "\n".join(lines)


def read() -> Any:
    """Return the committed results."""
    return read_benchmark("serve")


TABLES: dict[str, Callable[[], str]] = {
    "serve_clients": serve_clients_line,
    "serve_load": serve_load_table,
    "serve_load_setup": serve_load_setup,
    "serve_overload": serve_overload_table,
    "serve_memory": serve_memory_line,
    "serve_drain": serve_drain_line,
    "serve_hostile": serve_hostile_table,
}

"""Count the instructions of a training step and of inference in the compiled kernels.

Run: `.venv/bin/python benchmarks/callgrind.py [--source kernels.cpp] [--record]`

Needs valgrind, a C++ compiler (`CXX`, or g++) and an AVX2 processor. The kernels are compiled with
the engine's flags, but for `x86-64-v3` instead of this machine, so that all machines with the same
compiler count the same. Images are bytes. Counted is one call after a warm-up call, on one thread,
with tanh and average pooling. Instructions inside the C library (a logarithm per image, copies) are
left out, since it chooses its code by processor.

Returned are for each case the instructions, the floating point operations of the layers'
multiply-adds (2 each) and their ratio; for the training step also each function's own share, what
the compiler inlined into it included.
"""

import collections
import os
import re
import shlex
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness import main

from lenet.native.build import FLAGS

KERNELS = Path(str(files("lenet").joinpath("native", "kernels.cpp")))
ARCHITECTURE = "x86-64-v3"
# Training or inference, and the images of a batch.
CASES = (("lenet5_train", 32), ("lenet5_infer", 1), ("lenet5_infer", 1000))
# Multiply-adds of one image in c1, c3, c5, f6 and output.
MULTIPLY_ADDS = (28 * 28 * 6 * 25, 10 * 10 * 16 * 150, 120 * 400, 84 * 120, 10 * 84)
DRIVER = """
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>
struct Call {  // as in kernels.cpp
  const void* pixels;
  const int64_t* labels;
  float* logits;
  const void* adam;
  int64_t batch;
  float *w[10], *g[10];
  double scores[3];
  int32_t format, classes, activation, pooling, threads;
  float background, span, smoothing;
};
extern "C" int lenet5_call(Call*);
int main(int, char** argv) {
  bool train = argv[1] == std::string("lenet5_train");
  long batch = std::atol(argv[2]);
  unsigned state = 1;
  auto uniform = [&] { return (state = state * 1664525u + 1013904223u) / 4294967296.0f; };
  std::vector<std::vector<float>> params, grads;
  for (int n : {150, 6, 2400, 16, 48000, 120, 10080, 84, 840, 10}) {
    params.emplace_back(n), grads.emplace_back(n);
    for (float& p : params.back()) p = (uniform() - 0.5f) / 8;
  }
  std::vector<uint8_t> x(batch * 784);
  std::vector<float> logits(batch * 10);
  for (uint8_t& v : x) v = uint8_t(uniform() * 255);
  std::vector<int64_t> labels(batch);
  for (int64_t& label : labels) label = int64_t(uniform() * 10);
  Call call{};
  call.pixels = x.data(), call.batch = batch, call.format = 2, call.span = 1;
  call.classes = 10, call.threads = 1;
  if (train) call.labels = labels.data();
  else call.logits = logits.data();
  for (int k = 0; k < 10; k++) call.w[k] = params[k].data(), call.g[k] = grads[k].data();
  for (int i = 0; i < 2; i++) lenet5_call(&call);
}
"""


def compile_program(compiler: list[str], source: Path, folder: Path) -> Path:
    """Compile the kernels as the engine does, and a program that calls them twice."""
    flags = [f"-march={ARCHITECTURE}" if flag == "-march=native" else flag for flag in FLAGS]
    library, driver, program = (folder / n for n in ("kernels.so", "driver.cpp", "driver"))
    subprocess.run([*compiler, *flags, str(source), "-o", str(library)], check=True)
    driver.write_text(DRIVER, encoding="utf-8")
    command = [*compiler, "-O1", "-std=c++17", str(driver), str(library), "-o", str(program)]
    subprocess.run([*command, f"-Wl,-rpath,{folder}"], check=True)
    return program


def count(program: Path, function: str, batch: int) -> collections.Counter[str]:
    """Return one call's instructions by function of the kernels."""
    output = program.with_name("callgrind.out")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]
    # Collect inside the function only, and start anew at each call: what stays is the last.
    command += ["--toggle-collect=lenet5_call", "--zero-before=lenet5_call"]
    command += ["--compress-strings=no", "--compress-pos=no", str(program), function, str(batch)]
    subprocess.run(command, check=True, capture_output=True)
    counts: collections.Counter[str] = collections.Counter()
    library = name = ""
    inclusive = False  # the line after calls= repeats what the called function's own lines say
    for line in output.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key == "ob":
            library = value
        elif key == "fn":  # "void c3_input_tile<2>(Scratch&, ...) [clone ...]"
            found = re.search(r"(\w+)(<[^(]*>)?\(", value)
            name = found[1] if found else value
        elif re.fullmatch(r"\d+ \d+", line) and not inclusive and library.endswith("kernels.so"):
            counts[name] += int(line.split()[1])
        inclusive = key == "calls"
    return counts


def flop(function: str, batch: int) -> int:
    """Return the floating point operations of the layers, gradients included when training."""
    forward = sum(MULTIPLY_ADDS)
    # Weights' gradients of every layer, and inputs' gradients of all but the first.
    backward = 2 * forward - MULTIPLY_ADDS[0] if function == "lenet5_train" else 0
    return 2 * batch * (forward + backward)


def callgrind(source: Path = KERNELS, repeats: int = 2) -> dict[str, Any]:
    """Count each case, and compare the repeats.

    Args:
        source: The kernels; others may be compared with.
        repeats: How often each case is counted, with the same result each time.
    """
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True)
    found: dict[str, Any] = {
        "compiler": version.stdout.splitlines()[0],
        "architecture": ARCHITECTURE,
    }
    with tempfile.TemporaryDirectory() as folder:
        program = compile_program(compiler, source, Path(folder))
        for function, batch in CASES:
            runs = [count(program, function, batch) for _ in range(repeats)]
            assert all(run == runs[0] for run in runs), f"{function}, {batch}: repeats differ"
            total, operations = runs[0].total(), flop(function, batch)
            found[f"{function}_{batch}"] = {
                "instructions": total,
                "flop": operations,
                "flop_per_instruction": round(operations / total, 3),
            }
            if function == "lenet5_train":
                found["shares_of_training_step"] = {
                    name: round(instructions / total, 4)
                    for name, instructions in runs[0].most_common()
                    if instructions >= total / 1000
                }
    return found


if __name__ == "__main__":
    main("callgrind", callgrind)

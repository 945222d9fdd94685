"""The command line's entry: what `lenet` and `lenet --help` say, and where each verb is.

The verbs are in other modules, and only that of the verb called is imported: `lenet --help` answers
before the argument parser, let alone torch, has loaded.
"""

import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType

from lenet import __version__
from lenet.errors import LeNetError

VERBS = {
    "train": "train a recipe and write its report",
    "evaluate": "score a run or a model file on a split",
    "predict": "read the digit in each picture",
    "read": "read the number in each picture",
    "export": "write a model as ONNX, torch.export, C and more, checked against its source",
    "serve": "answer over HTTP: pictures, pixels and tensors in, labels out",
    "report": "draw the figures and the report of a finished run again",
    "study": "train a recipe under many seeds and summarize",
    "compare": "say whether one recipe is better than another",
    "bench": "measure the speed of this machine's engines",
    "data": "fetch, list or verify the data sets",
    "recipes": "show the named recipes",
    "env": "show versions and machine, for a bug report",
}

MODULES = {
    "train": "lenet.cli.train",
    "evaluate": "lenet.cli.model",
    "export": "lenet.cli.model",
    "predict": "lenet.cli.pictures",
    "read": "lenet.cli.pictures",
    "serve": "lenet.cli.serve",
    "study": "lenet.cli.study",
    "compare": "lenet.cli.study",
}
"""Where the verbs are that `lenet.cli.data` does not have."""

NEED_TORCH = ("train", "evaluate", "export", "serve", "study", "bench", "env", "report")

OVERVIEW = """\
usage: lenet COMMAND [OPTIONS]

LeNet-5 on MNIST in PyTorch: train it on the real digits and see what it learned.

commands:
{verbs}

options:
  -h, --help   this text; `lenet COMMAND --help` shows a command's options
  --version    the version

examples:
  lenet train                      train, then look at runs/default-seed0/report.html
  lenet train report --seed 3      the original report's settings, another seed
  lenet evaluate runs/default-seed0 --json
  lenet predict my-seven.jpg       no training needed: a model comes with the package
"""

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        Exit status: 0; 1, our error, one line on stderr; 2, wrong usage; 130, Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:<10} {summary}" for name, summary in VERBS.items())
        print(OVERVIEW.format(verbs=verbs), end="")
        return 0 if arguments else EXIT_USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"lenet {__version__}")
        return 0
    if arguments[0] not in VERBS:
        near = get_close_matches(arguments[0], VERBS, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else f"; there is: {', '.join(VERBS)}"
        print(f"error: no command `{printable(arguments[0])}`{hint}", file=sys.stderr)
        return EXIT_USAGE
    if arguments[0] in ("predict", "read", "serve") and "numpy" not in sys.modules:
        # Pictures are read in parallel, and a server has small batches: with more than one, numpy's
        # own threads wait for each other.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        module = _load(arguments, is_process=argv is None)
        status: int = getattr(module, arguments[0])(arguments[1:])
        sys.stdout.flush()
        if argv is None:
            # The work is done; Ctrl-C while Python ends would leave its finalizers' traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except LeNetError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt as error:
        print(printable(str(error)) or "interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _end_output()  # the reader has enough
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"error: the output can't be written: {error.strerror}", file=sys.stderr)
        return _end_output()
    except SystemExit as stop:
        # The argument parser's own: 0 after --help, 2 after wrong usage.
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    return status


def _end_output() -> int:
    """Drop what is left to print: Python would complain once more as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_ERROR


def _load(arguments: Sequence[str], *, is_process: bool) -> ModuleType:
    """Import what a verb needs; Ctrl-C meanwhile ends the process at once and in silence.

    A KeyboardInterrupt inside an import may be swallowed by it, and aborts the process in torch's
    C++ initialization.
    """
    if is_process:
        # A console of Windows, or a file it is redirected to, may lack a file name's characters.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if arguments[0] in NEED_TORCH and not {"-h", "--help"} & set(arguments):
        import_module("torch")
    module = import_module(MODULES.get(arguments[0], "lenet.cli.data"))
    if is_process:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return module


def printable(text: str) -> str:
    """Return text with control characters escaped: a stranger's file name may hold some."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)

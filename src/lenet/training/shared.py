"""One run shared out among the processes that `torchrun` starts, on one machine or several.

Each process takes its share of every global batch, and the gradients of the shares, weighted by
their sizes, are summed: the step is that of one process with the whole batch, to rounding, whatever
their number. Process 0 alone reads and writes the run directory, and the others are told what it
holds, so machines need not share a file system.
"""

import atexit
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.optim import Optimizer

from lenet.errors import RunError
from lenet.results.scores import BatchScores

Step = Callable[[Tensor, Tensor], BatchScores]
T = TypeVar("T")

ASK_S = 0.02
"""Seconds between two looks whether the others are there."""


@dataclass(frozen=True)
class Group:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    world_size: int = 1
    num_local: int = 1
    """Processes on this machine, which share its cores."""
    device: torch.device | None = None
    """What this process computes on, where each has one of its own; None leaves it to the user."""

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which alone writes and speaks."""
        return self.rank == 0

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what `make` gives in process 0; elsewhere it is not called.

        Raises:
            RunError: Another process ended.
        """
        if self.world_size == 1:
            return make()
        values = [make() if self.is_first else None]
        with _others_missed():
            dist.broadcast_object_list(values, device=self._exchange_device)
        return values[0]  # type: ignore[return-value]  # process 0 put a T there

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, the same bits in each.

        Raises:
            RunError: Another process ended.
        """
        if self.world_size == 1:
            return values
        sent = values.to(self._exchange_device)
        with _others_missed():
            dist.all_reduce(sent)
        return sent.to(values.device)

    @property
    def _exchange_device(self) -> torch.device:
        # NCCL sends from a GPU to a GPU, gloo from memory to memory.
        is_cuda = self.device is not None and self.device.type == "cuda"
        return self.device if is_cuda and self.device is not None else torch.device("cpu")


ALONE = Group()


def is_under_torchrun() -> bool:
    """Return whether `torchrun` started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def is_restart() -> bool:
    """Return whether `torchrun` started this process in place of one that ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """Join the processes that `torchrun` started; without it, be alone.

    Args:
        device: What the user chose; of several GPUs each process takes one.

    Raises:
        RunError: The others can't be reached, or there are more processes than GPUs.
    """
    if not is_under_torchrun():
        yield ALONE
        return
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise RunError(
                f"process {local_rank} of this machine has no GPU: there are "
                f"{torch.cuda.device_count()}; start fewer with --nproc-per-node, or --device cpu"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    try:
        store, *_ = next(rendezvous("env://"))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=agreed_store(store, rank, world_size),
            rank=rank,
            world_size=world_size,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the other processes of this run can't be reached: {error}") from None
    try:
        yield Group(rank, world_size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), device)
    except BaseException as error:
        # Threads of the group may wait for others that are gone, and an ordinary exit for them.
        atexit.register(_exit_at_once, _status_of(error))
        raise
    dist.destroy_process_group()


def agreed_store(store: Store, rank: int, world_size: int) -> Store:
    """Return a part of a store that no processes but these have written to.

    `torchrun` keeps one store over all its restarts, and numbers restarts by host. In it a process
    may find the address of one that was killed, in place of that of its successor, and wait half
    an hour for it. So process 0 makes up a name, and tells it to who asks with a name of their own.

    Args:
        store: That of `torchrun`.
        rank: Of this process.
        world_size: Number of processes; each calls this.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"lenet/asks/{rank}", own)
        name = str(store.get(f"lenet/name/{own}"), "ascii")
        store.set(f"lenet/{name}/knows/{rank}", "")
        return PrefixStore(f"lenet/{name}", store)
    answered: dict[int, str] = {}
    missing = set(range(1, world_size))
    while missing:
        for other in sorted(missing):
            if store.check([f"lenet/asks/{other}"]):
                asker = str(store.get(f"lenet/asks/{other}"), "ascii")
                # It may be one that is gone; who comes after it asks again.
                if answered.get(other) != asker:
                    store.set(f"lenet/name/{asker}", own)
                    answered[other] = asker
        missing = {i for i in missing if not store.check([f"lenet/{own}/knows/{i}"])}
        time.sleep(ASK_S)
    return PrefixStore(f"lenet/{own}", store)


def _status_of(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _exit_at_once(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def _others_missed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        first = str(error).split(". ")[0].splitlines()[0]
        raise RunError(
            f"another process of this run ended ({first}); `torchrun --max-restarts` goes on by "
            "itself, `lenet train --resume` by hand"
        ) from None


def torch_gradients(model: nn.Module, criterion: nn.Module, measure: nn.Module | None) -> Step:
    """Return what writes a batch's gradients into the parameters with autograd, and scores it.

    Args:
        model: Images to logits.
        criterion: Mean loss to minimize, of (logits, labels).
        measure: Mean loss to report, where that is another.
    """

    def step(x: Tensor, labels: Tensor) -> BatchScores:
        model.zero_grad(set_to_none=True)
        logits = model(x)
        minimized = criterion(logits, labels)
        minimized.backward()
        logits, minimized = logits.detach(), minimized.detach()
        loss = minimized if measure is None else measure(logits, labels)
        num_correct = (logits.argmax(1) == labels).sum()
        return BatchScores(
            loss=float(loss), num_correct=int(num_correct), minimized=float(minimized)
        )

    return step


def shared_step(
    group: Group, gradients: Step, parameters: Sequence[nn.Parameter], optimizer: Optimizer
) -> Step:
    """Return `learn` of `training_loop` for one process's share of each batch.

    Args:
        group: The processes.
        gradients: Writes the gradients of a share's mean loss, and scores it.
        parameters: What is trained.
        optimizer: Of these; it takes the same step in every process.
    """

    def learn(x: Tensor, labels: Tensor) -> BatchScores:
        if len(labels):
            mine = gradients(x, labels)
        else:  # the last batch may be smaller than there are processes
            mine = BatchScores(loss=0.0, num_correct=0, minimized=0.0)
            for p in parameters:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        size = len(labels)
        scores = [mine.loss * size, mine.num_correct, mine.minimized * size, size]
        # One message a step: what it costs is its being sent, not its 240 kB.
        total = group.sum(torch.cat([flat * size, flat.new_tensor(scores)]))
        loss, num_correct, minimized, num_images = total[-4:].tolist()
        start = 0
        for p in parameters:
            p.grad = (total[start : start + p.numel()] / num_images).view_as(p)
            start += p.numel()
        optimizer.step()
        return BatchScores(
            loss=loss / num_images,
            num_correct=round(num_correct),
            minimized=minimized / num_images,
            num_images=round(num_images),
        )

    return learn

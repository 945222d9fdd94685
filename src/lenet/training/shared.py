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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from lenet.errors import RecipeError, RunError
from lenet.training.learners import Tally, TorchLearner, WrappedLearner
from lenet.training.run import Progress, Run

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


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """Join the processes that `torchrun` started.

    Args:
        device: What the user chose; of several GPUs each process takes one.

    Raises:
        RunError: The others can't be reached, or there are more processes than GPUs.
    """
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


class SharedLearner(WrappedLearner):
    """Trains on this process's share of each batch; the processes take the same step."""

    def __init__(self, learner: TorchLearner, group: Group) -> None:
        """Wrap the learner that computes the gradients of the share."""
        if not learner.can_share:
            raise RecipeError(
                "`optimizer` (=sdlm) learns one image at a time: nothing to share among "
                f"{group.world_size} processes"
            )
        super().__init__(learner)
        self._group = group

    def step(self, images: Tensor, labels: Tensor, lr: float | None = None) -> Tally:
        """Train on one batch of which this process has a share, which may be empty.

        Returns:
            Loss and accuracy of the whole batch before the step.
        """
        learner = self.learner
        learner.set_lr(lr)
        parameters = list(learner.model.parameters())
        tally = Tally()
        if len(labels):
            tally += learner.gradients(images, labels)
        else:  # the last batch may be smaller than there are processes
            for p in parameters:
                p.grad = torch.zeros_like(p)
        size = len(labels)
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        scores = flat.new_tensor([float(tally.loss_sum), float(tally.num_correct), size])
        # One message a step: what it costs is its being sent, not its 240 kB.
        total = self._group.sum(torch.cat([flat * size, scores]))
        loss_sum, num_correct, num_images = total[-3:].tolist()
        start = 0
        for p in parameters:
            p.grad = (total[start : start + p.numel()] / num_images).view_as(p)
            start += p.numel()
        learner.optimizer.step()
        learner.update_average()
        return Tally(loss_sum / num_images, round(num_correct), round(num_images))


@dataclass(frozen=True, kw_only=True)
class SharedRun(Run):
    """A run that several processes train; the first one alone reads and writes its directory."""

    group: Group

    @classmethod
    def of(cls, run: Run, group: Group) -> Run:
        """Return a run as a process of a group trains it."""
        if group.world_size == 1:
            return run
        return cls(
            **{f.name: getattr(run, f.name) for f in fields(Run)}
            | {
                "group": group,
                "rank": group.rank,
                "world_size": group.world_size,
                "num_local": group.num_local,
                "device": group.device,
            }
        )

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the directory, in the first process."""
        if not self.is_first:
            yield
            return
        with super().claim():
            yield

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what a function returns in the first process, in all of them."""
        return self.group.from_first(make)

    def share(self, learner: TorchLearner) -> TorchLearner:
        """Return the learner of this process's part of each batch."""
        return SharedLearner(learner, self.group)

    def save_epoch(self, learner: TorchLearner, progress: Progress) -> None:
        """Write the state, in the first process."""
        if self.is_first:
            super().save_epoch(learner, progress)

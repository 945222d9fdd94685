"""Learning-rate schedules, by name: pure functions of the step.

Each takes the share of the run after warm-up that is done, 0..1, and returns the factor on the
peak learning rate.
"""

import math
from collections.abc import Callable

# eta in passes of 20: 0.0005 for two, 0.0002 for three, 0.0001 for three, 0.00005 for four, then
# 0.00001. Source: LeCun et al. 1998, section III.B.
_LECUN_1998 = ((2 / 20, 1.0), (5 / 20, 0.4), (8 / 20, 0.2), (12 / 20, 0.1), (1.0, 0.02))


def _lecun1998(done: float) -> float:
    return next(factor for end, factor in _LECUN_1998 if done < end)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "lecun1998": _lecun1998,
}


def lr_factor(schedule: str, step: int, *, num_steps: int, num_warmup_steps: int) -> float:
    """Return the factor on the peak learning rate at a step.

    Args:
        schedule: Key of `SCHEDULES`.
        step: 0 for the first.
        num_steps: Steps of the whole run.
        num_warmup_steps: Steps of the linear rise; the last of them reaches the peak.

    Returns:
        0..1; never 0, so that no step is wasted.

    Example:
        >>> [round(lr_factor("linear", s, num_steps=6, num_warmup_steps=2), 2) for s in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    return SCHEDULES[schedule]((step - num_warmup_steps) / (num_steps - num_warmup_steps))

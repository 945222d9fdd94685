"""Model files that carry all that is needed to use them.

A model file is safetensors: tensors and a JSON header, nothing that can run. Its header holds
one key, `lenet`, a JSON object with sorted keys, so that equal models are equal files byte for
byte (safetensors writes several keys in no fixed order).
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from lenet.errors import CheckpointError
from lenet.files import replacing
from lenet.models import Network, network_class
from lenet.schema import ModelCard, decode_card, encode_card

MODEL_FILE = "model.safetensors"
MAX_MODEL_BYTES = 64 * 2**20
"""No network here is near this size; a larger file is not one of ours."""


def save_model(path: Path, model: nn.Module, card: ModelCard) -> None:
    """Write a model file, whole or not at all."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"lenet": encode_card(card)})


def find_model(path: Path) -> Path:
    """Return the model file that `path` names: itself, or the one in a run directory.

    Raises:
        CheckpointError: There is none.
    """
    if path.is_dir():
        inside = path / MODEL_FILE
        if not inside.is_file():
            raise CheckpointError(
                f"{path}: no {MODEL_FILE} in it; the run is not finished "
                f"(`lenet train --resume --out {path}` goes on) or this is not a run directory"
            )
        return inside
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or run directory")
    return path


def load_model(path: Path) -> tuple[Network, ModelCard]:
    """Read a model file; nothing in it is run.

    Args:
        path: A .safetensors file written by `save_model`, or a run directory that holds one.

    Returns:
        The model, on the CPU and in evaluation mode, and what the file says about itself.

    Raises:
        CheckpointError: Not a model file of this package; the message says what was found.
    """
    path = find_model(path)
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise CheckpointError(
            f"{path}: expected a model file of at most {MAX_MODEL_BYTES:,} bytes, "
            f"found {size:,} bytes"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("lenet")
            names = set(file.keys())
            if header is None:
                raise CheckpointError(
                    f"{path}: a safetensors file, but not one of lenet's: its header has no "
                    "`lenet` key"
                )
            card = decode_card(header, path)
            model = network_class(card.model)(**card.config)
            wanted = model.state_dict()
            if names != set(wanted):
                raise CheckpointError(
                    f"{path}: expected the tensors of {card.model}, "
                    f"missing {sorted(set(wanted) - names)}, extra {sorted(names - set(wanted))}"
                )
            for name, tensor in wanted.items():
                stored = file.get_slice(name)
                if stored.get_shape() != list(tensor.shape) or stored.get_dtype() != "F32":
                    raise CheckpointError(
                        f"{path}: tensor {name}: expected F32 {list(tensor.shape)}, "
                        f"found {stored.get_dtype()} {stored.get_shape()}"
                    )
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: expected a safetensors file, found: {error}") from None
    bad = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise CheckpointError(f"{path}: expected finite weights, found NaN or infinity in {bad}")
    model.load_state_dict(tensors)
    return model.eval(), card

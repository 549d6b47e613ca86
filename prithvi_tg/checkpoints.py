"""Loading weights of every published format into our models, safely and with a report.

Formats: the mmseg ``.pth`` of fine-tuned models, the pre-trained ``Prithvi_100M.pt`` (flat keys) and
``Prithvi_EO_*.pt`` (``encoder.*``), files of timm and TorchGeo, Lightning checkpoints of this package, and safetensors.
"""

import codecs
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .bands import PRITHVI_BANDS
from .deprecated import accepts_old_arguments, nested_spec
from .errors import CheckpointError, counted
from .hub import find_weights as find_weights
from .hub import local_path
from .load_report import LoadReport, refuse_misfits
from .models import Encoder, MaskedAutoencoder
from .models.encoders.prithvi import PrithviViT, position_table

Value = TypeVar("Value")

_ENCODER_ROOTS = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
#: Names of the decoder of masked autoencoding in flat files.
_DECODER_ROOTS = (
    "mask_token",
    "decoder_pos_embed",
    "decoder_embed.",
    "decoder_blocks.",
    "decoder_norm.",
    "decoder_pred.",
)
_WRAPPERS = ("module.", "model.")


#: First bytes of the files of `torch.save`: a zip archive, or in PyTorch before 1.6 a pickle.
_FIRST_BYTES = (b"PK\x03\x04", b"\x80")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file of weights.

    Attributes:
        path: The file.
        state_dict: Tensors by their canonical names: ``encoder.*``, ``neck.*``, ``decode_head.*``,
            ``auxiliary_head.*``, and ``decoder.*`` of masked autoencoding; other tensors keep their names.
        hyper_parameters: Arguments of the task that wrote it; empty for files of other packages.
        meta: Plain values beside the tensors (mmseg's ``meta``, Lightning's ``epoch``).
    """

    path: Path
    state_dict: dict[str, Tensor]
    hyper_parameters: dict[str, Any]
    meta: dict[str, Any]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the encoder's bands, if the file records them."""
        data = self.hyper_parameters.get("data_spec")
        inputs = nested_spec(data)["input"] if isinstance(data, Mapping) else {}
        for source in (self.hyper_parameters, inputs):
            names = source.get("bands")
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
        return ()

    @property
    def encoder(self) -> str:
        """The encoder and its arguments, if the file records them, in words."""
        name, arguments = (self.hyper_parameters.get(key) for key in ("encoder", "encoder_args"))
        with_arguments = f" with encoder_args {arguments}" if arguments else " without encoder_args"
        return f"{name}{with_arguments}" if name else ""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of weights without running code in it.

    The only pickled globals allowed are tensors, plain containers and the numpy scalar and dtype types in mmseg's
    ``meta``.

    Raises:
        CheckpointError: The file is missing or damaged, or has other pickled globals or no tensors.
    """
    path = local_path(path)
    if not path.is_file():
        raise CheckpointError.missing(path)
    if path.suffix == ".pt2":
        raise CheckpointError(
            f"{path}: is an exported program, which only predicts; give the checkpoint that it was exported from, or "
            "predict without a configuration"
        )
    if path.suffix == ".onnx":
        raise CheckpointError(
            f"{path}: ONNX is for other programs; give a checkpoint (.ckpt), exported weights (.safetensors) or an "
            "exported program (.pt2)"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    with path.open("rb") as file:
        if not file.read(4).startswith(_FIRST_BYTES):
            raise CheckpointError(f"{path}: not a checkpoint")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = _refused(str(error))
        raise CheckpointError(f"{path}: refused, because reading it could run code ({reason})") from error
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({_first_line(error)})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state dict")
    tensors: Any = content
    for wrapper in ("state_dict", "model"):
        if isinstance(content.get(wrapper), Mapping):
            tensors = content[wrapper]
            break
    state_dict = {str(key): value for key, value in tensors.items() if isinstance(value, Tensor)}
    if not state_dict:
        raise CheckpointError(f"{path}: holds no tensors")
    meta = {key: value for key, value in content.items() if tensors is not content and value is not tensors}
    hyper_parameters = dict(meta.pop("hyper_parameters", None) or {})
    return Checkpoint(path, canonical_keys(state_dict), hyper_parameters, meta)


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            meta = dict(file.metadata() or {})
            state_dict = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({_first_line(error)})") from error
    hyper_parameters = json.loads(meta.pop("hyper_parameters", "{}"))
    return Checkpoint(path, canonical_keys(state_dict), hyper_parameters, meta)


def _numpy_scalars() -> list[Any]:
    """The globals of a pickled numpy scalar, under the names of numpy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]  # numpy exports no name for it
    kinds = [
        type(np.dtype(code))
        for code in ("?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d")
    ]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        codecs.encode,  # pickle protocol 2 writes the bytes of a scalar with it
        *dict.fromkeys(kinds),
    ]


def _refused(message: str) -> str:
    """What PyTorch refused, without its advice to read the file nevertheless."""
    if "GLOBAL" not in message:
        return _first_line(message.rpartition("WeightsUnpickler error:")[2])
    words = message.replace("`", " ").replace(",", " ").split()
    names = [word for word in words[words.index("GLOBAL") :] if "." in word.strip(".")]
    return f"it refers to {names[0]}" if names else _first_line(message)


def _first_line(error: object) -> str:
    return str(error).strip().split("\n")[0][:200]


def canonical_keys(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Rename tensors to the names of `EncoderDecoder` and `MaskedAutoencoder`.

    Strips ``module.`` and ``model.``, renames ``backbone.`` to ``encoder.``, and prefixes flat keys of the encoder with
    it, and those of the decoder of masked autoencoding with ``decoder.``.
    """
    renamed = {}
    for name, tensor in state_dict.items():
        key = name
        while key.startswith(_WRAPPERS):
            key = key.split(".", 1)[1]
        if key.startswith("backbone."):
            key = "encoder." + key.removeprefix("backbone.")
        elif key.startswith(_ENCODER_ROOTS):
            key = "encoder." + key
        elif key.startswith(_DECODER_ROOTS):
            key = "decoder." + key
        renamed[key] = tensor
    return renamed


@accepts_old_arguments
def load_weights(
    model: nn.Module,
    source: str | Path | Checkpoint,
    allow_missing: bool = False,
    truncate_depth: bool = False,
    bands: Sequence[str] | None = None,
    allow_new_bands: bool = False,
) -> LoadReport:
    """Load a file of weights into an encoder, an encoder-decoder, or another model.

    An encoder loads only the encoder's tensors of a file. The fixed position table of a file is compared with the
    model's, but not loaded.

    Args:
        model: Changed in place, and only if all tensors fit.
        source: A file, or a result of `read_checkpoint`.
        allow_missing: Accept a file that lacks tensors of the model; they keep their values.
        truncate_depth: Accept a file with more transformer blocks than the model, and load the first ones.
        bands: The model's bands, by name. The input embedding is matched to them by the bands that the file records,
            or else by the bands of the published encoder if their number fits; if they are unknown, by position.
            ``None`` loads the embedding unchanged.
        allow_new_bands: Accept bands that are not among the file's; their part of the input embedding keeps the
            model's values.

    Returns:
        The loaded and the remaining tensors.

    Raises:
        CheckpointError: The file cannot be read safely, lacks tensors of the model, or is of another architecture.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    part = model if isinstance(model, Encoder) else getattr(model, "encoder", None)
    encoder = part if isinstance(part, Encoder) else None
    tensors = checkpoint.state_dict if encoder is None else encoder.rename_weights(checkpoint.state_dict)
    input_weights = () if encoder is None else [f"encoder.{name}" for name in encoder.input_weights]
    output_weights = model.output_weights if isinstance(model, MaskedAutoencoder) else ()
    tables = _position_tables(model, encoder)
    state = model.state_dict()
    # A model of another kind may have names that `canonical_keys` changes.
    own_names = canonical_keys({"encoder." + key if model is encoder else key: key for key in state})
    wanted = {key: state[name] for key, name in own_names.items()}
    report = LoadReport(checkpoint.path, encoder_only=model is encoder, encoder=checkpoint.encoder)
    loaded: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key in input_weights and encoder is not None and bands is not None:
            before = checkpoint.bands or _published_bands(encoder, tensor)
            if before and before != tuple(bands):
                report.bands = _fates(before, bands)
                _refuse_new_bands(report, allow_new_bands)
                tensor = _match_bands(tensor, checkpoint.path, before, bands, wanted[key])
            elif not before:
                report.bands = dict.fromkeys(bands, "by position")
        if key in output_weights and bands is not None:
            tensor = _match_outputs(tensor, checkpoint, bands, wanted[key])
        if key in tables:
            _check_position_table(tensor, key, tables[key], report)
            report.recomputed.append(key)
        elif key not in wanted:
            report.unexpected.append(key)
        elif tensor.shape == wanted[key].shape:
            report.matched.append(key)
            loaded[key] = tensor
        elif _squeezed(tensor) == _squeezed(wanted[key]):
            report.reshaped.append(key)
            loaded[key] = tensor.reshape(wanted[key].shape)
        else:
            report.mismatched[key] = (tuple(tensor.shape), tuple(wanted[key].shape))
    seen = {*loaded, *report.mismatched}
    report.missing = [key for key in wanted if key not in seen]
    refuse_misfits(report, wanted, allow_missing, truncate_depth)
    model.load_state_dict({own_names[key]: value for key, value in loaded.items()}, strict=not report.missing)
    return report


def _fates(before: Sequence[str], bands: Sequence[str]) -> dict[str, str]:
    """For each band of the model: new, kept, or reordered from its position in the file."""
    fates = {}
    for place, band in enumerate(bands):
        if band not in before:
            fates[band] = "new"
        elif before.index(band) == place:
            fates[band] = "kept"
        else:
            fates[band] = f"reordered from {before.index(band)} to {place}"
    return fates


def _refuse_new_bands(report: LoadReport, allow_new_bands: bool) -> None:
    new = [band for band, fate in report.bands.items() if fate == "new"]
    if new and not allow_new_bands:
        raise CheckpointError(
            f"{report.source}: not trained on {', '.join(new)}; set allow_new_bands: true to start "
            "their part of the input embedding from random weights"
        )


def _published_bands(encoder: Encoder, weight: Tensor) -> tuple[str, ...]:
    """Names of the bands of an input weight (D, C, ...), if their number is that of the published encoder."""
    names = encoder.pretrained_bands
    return names if weight.shape[1] == len(names) else ()


def _match_bands(
    tensor: Tensor, path: Path, before: Sequence[str], bands: Sequence[str], model: Tensor
) -> Tensor:
    """Reorder an input weight (D, C, ...) of a file with bands `before` to the model's bands."""
    for owner, channels, names in (("the file", tensor, before), ("the model", model, bands)):
        if channels.shape[1] != len(names):
            raise CheckpointError(
                f"{path}: bands cannot be matched by name: the input embedding of {owner} has "
                f"{counted(channels.shape[1], 'channel')} for {counted(len(names), 'band')} ({' '.join(names)})"
            )
    columns = [
        tensor[:, before.index(band)]
        if band in before
        else model[:, place].reshape(tensor[:, 0].shape).to(tensor)
        for place, band in enumerate(bands)
    ]
    return torch.stack(columns, dim=1)


def _match_outputs(tensor: Tensor, checkpoint: Checkpoint, bands: Sequence[str], model: Tensor) -> Tensor:
    """Reorder the predicted values (p*q*C, ...) of a file to the model's bands."""
    before = checkpoint.bands or PRITHVI_BANDS
    if before == tuple(bands) or len(tensor) % len(before) or len(model) % len(bands):
        return tensor
    apart, wanted = (
        values.reshape(-1, len(names), *values.shape[1:])
        for values, names in ((tensor, before), (model, bands))
    )
    if len(apart) != len(wanted):
        return tensor
    return _match_bands(apart, checkpoint.path, before, bands, wanted).flatten(0, 1)


def _squeezed(tensor: Tensor) -> list[int]:
    return [length for length in tensor.shape if length != 1]


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file with the permissions of any new file; its library lets only the owner read it."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    path.chmod(mode)


def _position_tables(model: nn.Module, encoder: Encoder | None) -> dict[str, int]:
    """Names and widths of the fixed position tables of a model, which it computes itself."""
    tables = {"encoder.pos_embed": encoder.width} if isinstance(encoder, PrithviViT) else {}
    if isinstance(model, MaskedAutoencoder):
        tables["decoder.decoder_pos_embed"] = model.decoder.variant.width
    return tables


def _check_position_table(table: Tensor, key: str, width: int, report: LoadReport) -> None:
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[2] != width:
        raise CheckpointError(
            f"{report.source}: different architecture: {key} is {tuple(table.shape)}, but the model's is (1, tokens, "
            f"{width}); {report.how_to_fit}"
        )
    tokens = table.shape[1] - 1
    grids = [(t, math.isqrt(tokens // t)) for t in range(1, 9)]  # published tables have square grids
    differences = [
        (table[0] - position_table(width, t, side, side)).abs().max().item()
        for t, side in grids
        if t * side * side == tokens
    ]
    difference = min(differences, default=0.0)
    if difference > 1e-5:
        warnings.warn(
            f"{report.source}: its position table differs by up to {difference:.2g} from the fixed sine-cosine table, "
            "which the model uses",
            stacklevel=3,
        )

"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) for the linear layers of an encoder's blocks."""

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .encoders.base import Encoder

#: Name of a target -> the linear layers of a block that have adapters; of a joint layer, see `JOINT_LAYERS`, only the
#: rows of the target.
LORA_TARGETS = {
    "qkv": r"attn\.(qkv|q|k|v|kv|q_proj|k_proj|v_proj)",
    "proj": r"attn\.proj",
    "query": r"attn\.(qkv|q|q_proj)",
    "key": r"attn\.(qkv|kv|k|k_proj)",
    "value": r"attn\.(qkv|kv|v|v_proj)",
    "mlp": r"mlp\.(fc1|fc1_g|fc1_x|fc2)",
}

#: Layers that compute several projections in one matrix -> the projections, in order of the rows.
JOINT_LAYERS = {"qkv": ("query", "key", "value"), "kv": ("key", "value")}

#: Key of the adapter of a whole layer in the state dict, the one that peft uses.
_WHOLE = "default"


class LoRALinear(nn.Module):
    """A linear layer plus low-rank updates of its output, or of parts of it.

    The parameters have the names that peft gives them: ``base_layer.weight``, ``lora_A.PART.weight`` and
    ``lora_B.PART.weight``, where the part is ``default`` for the whole output.

    Args:
        base_layer: The layer.
        rows: Rows of the weight of the layer, and so channels of its output, by part.
        rank: Rank of each update.
        scale: Factor of the updates.
        dropout: Dropout rate of the input of the updates.
    """

    def __init__(
        self, base_layer: nn.Linear, rows: dict[str, slice], rank: int, scale: float, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.rows = rows
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        weight = base_layer.weight
        options: dict[str, Any] = {"bias": False, "device": weight.device, "dtype": weight.dtype}
        self.lora_A = nn.ModuleDict()
        self.lora_B = nn.ModuleDict()
        for part, selected in rows.items():
            self.lora_A[part] = nn.Linear(base_layer.in_features, rank, **options)
            self.lora_B[part] = nn.Linear(rank, selected.stop - selected.start, **options)
            nn.init.zeros_(self.lora_B[part].weight)  # type: ignore[arg-type]  # of a linear layer

    def forward(self, x: Tensor) -> Tensor:
        """(..., D_in) -> (..., D_out)."""
        output: Tensor = self.base_layer(x)
        for part, rows in self.rows.items():
            update = self.scale * self.lora_B[part](self.lora_A[part](self.dropout(x)))
            padding = (rows.start, output.shape[-1] - rows.stop)
            output = output + (F.pad(update, padding) if any(padding) else update)
        return output

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer, with the updates added to its weight in place."""
        for part, rows in self.rows.items():
            update = self.lora_B[part].weight @ self.lora_A[part].weight  # type: ignore[operator]  # tensors
            self.base_layer.weight[rows] += self.scale * update
        return self.base_layer


def add_lora(
    encoder: Encoder,
    rank: int,
    targets: Sequence[str] = ("qkv", "proj"),
    alpha: float | None = None,
    dropout: float = 0.0,
) -> None:
    """Add adapters to linear layers of every block, and freeze all other parameters.

    Args:
        encoder: The encoder, changed in place. The attention of its blocks must be named ``attn`` with layers ``qkv``
            (or ``q``, ``k`` and ``v``) and ``proj``, and their MLP ``mlp`` with layers ``fc1`` (or
            ``fc1_g`` and ``fc1_x``) and ``fc2``, as in timm.
        rank: Rank of the adapters.
        targets: Names in `LORA_TARGETS`.
        alpha: The output of the adapters is scaled by ``alpha / rank``; ``None`` for twice the rank.
        dropout: Dropout rate of the input of the adapters.

    Raises:
        ConfigError: A target is unknown, contains another one, or has no layers in the encoder; or the encoder uses
            the weights of the layers without calling them.
    """
    found = _find_layers(encoder, targets)
    _check_that_layers_are_called(encoder, list(found))
    scale = 2.0 if alpha is None else alpha / rank
    encoder.requires_grad_(False)
    for name, rows in found.items():
        parent_name, _, child_name = name.rpartition(".")
        layer: nn.Linear = encoder.get_submodule(name)  # type: ignore[assignment]
        setattr(encoder.get_submodule(parent_name), child_name, LoRALinear(layer, rows, rank, scale, dropout))


def _find_layers(encoder: Encoder, targets: Sequence[str]) -> dict[str, dict[str, slice]]:
    """Linear layers by name, and for each the rows by part, see `LoRALinear`."""
    if unknown := [target for target in targets if target not in LORA_TARGETS]:
        raise ConfigError(f"lora_targets: {unknown[0]!r} is unknown; choose from {', '.join(LORA_TARGETS)}")
    if not targets:
        raise ConfigError(
            f"lora_targets: empty; give one or more of {', '.join(LORA_TARGETS)}, or set lora_rank to 0"
        )
    if "qkv" in targets and (parts := set(targets) & set(JOINT_LAYERS["qkv"])):
        raise ConfigError(f"lora_targets: qkv includes {sorted(parts)[0]}; give only one of them")
    found: dict[str, dict[str, slice]] = {}
    for target in targets:
        pattern = re.compile(rf"(.*\.)?{LORA_TARGETS[target]}")
        layers = {
            name: layer
            for name, layer in encoder.named_modules()
            if isinstance(layer, nn.Linear) and pattern.fullmatch(name)
        }
        if not layers:
            raise ConfigError(
                f"lora_targets: {type(encoder).__name__} has no linear layers for {target} in its blocks; choose "
                "other targets, or set lora_rank to 0, or choose a ViT"
            )
        for name, layer in layers.items():
            found.setdefault(name, {}).update(_rows(target, name.rpartition(".")[2], layer.out_features))
    return found


def _rows(target: str, layer: str, length: int) -> dict[str, slice]:
    """Rows of a target in the weight of a layer, by part."""
    parts = JOINT_LAYERS.get(layer, ())
    if target not in parts:
        return {_WHOLE: slice(0, length)}
    size = length // len(parts)
    start = parts.index(target) * size
    return {target: slice(start, start + size)}


def _check_that_layers_are_called(encoder: Encoder, layers: list[str]) -> None:
    """Check that the encoder calls its layers; if it only reads ``qkv.weight``, adapters would have no effect.

    An encoder on the meta device is not checked: torch has no autocast there.
    """
    weight = next(encoder.parameters())
    if weight.is_meta:
        return
    called = set()
    hooks = [
        encoder.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
        for name in layers
    ]
    was_training = encoder.training
    with torch.no_grad():
        encoder.eval()(
            weight.new_zeros(1, 1, encoder.num_bands, 2 * encoder.patch_size, 2 * encoder.patch_size)
        )
    encoder.train(was_training)
    for hook in hooks:
        hook.remove()
    if missed := sorted(set(layers) - called):
        more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
        raise ConfigError(
            f"lora_rank: {type(encoder).__name__} does not call {missed[0]}{more} as a layer, "
            "so adapters have no effect; set lora_rank to 0, or choose another encoder"
        )


def merge_lora(module: nn.Module) -> None:
    """Merge adapters into the weights, in place, and restore the published parameter names."""
    for child_name, child in list(module.named_children()):
        if isinstance(child, LoRALinear):
            setattr(module, child_name, child.merged())
        else:
            merge_lora(child)

"""LoadReport: how the tensors of a file match a model, and the errors if they do not."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .errors import CheckpointError, counted

#: Names of tensors that only masked autoencoding needs.
_PRETRAINING_DECODER = ("decoder.mask_token", "decoder.decoder_")
#: First part of the names of tensors -> the part of a model, if it has another name.
_PARTS = {
    "decoder": "the pre-training decoder", "decode_head": "the decode head", "auxiliary_head": "the auxiliary head",
    "neck": "the neck", "head": "the head", "criterion": "the loss (only for training)",
}  # fmt: skip


@dataclass
class LoadReport:
    """How the tensors of a file were loaded into a model.

    Attributes:
        matched: Loaded unchanged.
        reshaped: Loaded after adding or dropping axes of length one.
        recomputed: Position tables; the model computes its own.
        missing: Tensors of the model that the file lacks.
        unexpected: Tensors of the file that the model lacks.
        mismatched: Tensors of both with incompatible shapes (file, model).
        bands: For each band of the model, how the patch embedding was matched, if the bands of the file differ.
        encoder_only: Whether the model is an encoder, so that other parts of the file are left out.
        encoder: The encoder that the file records, in words; empty if it records none.
    """

    source: Path
    matched: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    bands: dict[str, str] = field(default_factory=dict)
    encoder_only: bool = False
    encoder: str = ""

    def __str__(self) -> str:
        kinds_of_others = (self.reshaped, self.recomputed, self.missing, self.unexpected, self.mismatched)
        every = "" if any(kinds_of_others) else "all "
        line = f"{self.source}: {every}{counted(len(self.matched), 'weight tensor')} loaded"
        left_out = [key for key in self.unexpected if self._is_left_out(key)]
        unexpected = [key for key in self.unexpected if key not in left_out]
        kinds = {kind: getattr(self, kind) for kind in ("reshaped", "recomputed", "missing")}
        for kind, keys in {**kinds, "unexpected": unexpected}.items():
            if keys:
                line += f", {len(keys)} {kind} ({_shortened(keys)})"
        if left_out:
            parts = dict.fromkeys(_PARTS.get(one, one) for one in (key.partition(".")[0] for key in left_out))
            only = "only the encoder is loaded; " if self.encoder_only else ""
            count = "1 tensor is" if len(left_out) == 1 else f"{len(left_out)} tensors are"
            line += f"; {only}{count} left out, of {_shortened(list(parts))}"
        if self.bands:
            line += "; bands: " + ", ".join(f"{band} {fate}" for band, fate in self.bands.items())
        return line

    def _is_left_out(self, key: str) -> bool:
        """Whether the model is not meant to have a tensor of the file."""
        return key.startswith((*_PRETRAINING_DECODER, "criterion.")) or (
            self.encoder_only and not key.startswith("encoder.")
        )

    @property
    def how_to_fit(self) -> str:
        """Advice on the architecture of the encoder."""
        if self.encoder:
            return f"set encoder and encoder_args to those of the file, {self.encoder}"
        return "choose the encoder of the file, or set its sizes with encoder_args"


def refuse_misfits(
    report: LoadReport, wanted: Mapping[str, Tensor], allow_missing: bool, truncate_depth: bool
) -> None:
    """Check that a file fits a model.

    Args:
        report: How its tensors match.
        wanted: Tensors of the model.
        allow_missing: Accept a file that lacks tensors of the model.
        truncate_depth: Accept a file with more transformer blocks than the model.

    Raises:
        CheckpointError: It does not fit.
    """
    if report.mismatched:
        key, (found, needed) = next(iter(report.mismatched.items()))
        others = len(report.mismatched) - 1
        more = f" (and {others} more that differ)" if others else ""
        advice = f"; {report.how_to_fit}" if key.startswith("encoder.") else ""
        raise CheckpointError(
            f"{report.source}: different architecture: {key} is {found}, but the model's is {needed}{more}{advice}"
        )
    surplus = _further_blocks(report.unexpected, wanted)
    if surplus and not truncate_depth:
        raise CheckpointError(
            f"{report.source}: different architecture: it has blocks that the model lacks "
            f"({_shortened(surplus, 1)}); set truncate_depth: true to load only its first blocks, or "
            f"{report.how_to_fit}"
        )
    if report.missing and not allow_missing:
        advice = ""
        if any(".lora_A." in key for key in report.unexpected):
            advice = "; it has low-rank adapters, which prithvi-tg export merges into a .safetensors file"
        elif _further_blocks(report.missing, [*report.matched, *report.reshaped]):
            advice = f"; {report.how_to_fit}"
        raise CheckpointError(
            f"{report.source}: lacks {len(report.missing)} tensors that the model needs: "
            f"{_shortened(report.missing)}{advice}"
        )


def _further_blocks(unexpected: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Tensors of numbered blocks of the encoder or the decoder that are not among the wanted ones."""
    known = {key[: dot.start()] for key in wanted for dot in re.finditer(r"\.", key)}
    return [
        key
        for key in unexpected
        for block in re.finditer(r"\.\d+(?=\.)", key)
        if key.startswith(("encoder.", "decoder."))
        and key[: block.start()] in known
        and key[: block.end()] not in known
    ]


def _shortened(keys: list[str], limit: int = 4) -> str:
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")

import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from prithvi_tg import EncoderDecoder, PrithviSegmentationTask, create_encoder, load_task, load_weights
from prithvi_tg.checkpoints import Checkpoint, read_checkpoint
from prithvi_tg.errors import CheckpointError
from prithvi_tg.models import ConvTransposeNeck, FCNHead
from prithvi_tg.models.encoders.prithvi import position_table
from prithvi_tg.tasks.export import export_weights

SIZE = {"width": 32, "depth": 2, "num_heads": 2}


def make_encoder(**overrides):
    return create_encoder("nano", **(SIZE | overrides))


def make_segmenter():
    heads = [FCNHead(32, 2, 8, convs) for convs in (1, 2)]
    return EncoderDecoder(make_encoder(), ConvTransposeNeck(32), *heads)


def encoder_tensors(prefix="", grid=(3, 2, 2)):
    state = make_encoder().state_dict()
    return {prefix + key: value for key, value in state.items()} | {
        f"{prefix}pos_embed": position_table(32, *grid).unsqueeze(0)
    }


def assert_same(model, tensors, prefix=""):
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, tensors[prefix + key])


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_flat_pretrained_weights_load(tmp_path):
    tensors = encoder_tensors() | {
        "mask_token": torch.zeros(1),
        "decoder_blocks.0.norm1.weight": torch.zeros(2),
    }
    torch.save(tensors, tmp_path / "Prithvi_100M.pt")
    encoder = make_encoder()
    report = load_weights(encoder, tmp_path / "Prithvi_100M.pt")
    assert_same(encoder, tensors)
    assert report.missing == []
    assert report.recomputed == ["encoder.pos_embed"]
    assert report.unexpected == ["decoder.mask_token", "decoder.decoder_blocks.0.norm1.weight"]


@pytest.mark.parametrize(
    "prefix", ["encoder.", "backbone.", "model.encoder.", "module.encoder.", "module.", "model.module."]
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_every_published_prefix_and_wrapper_is_supported(tmp_path, prefix, wrapper):
    tensors = encoder_tensors(prefix) | {"decoder.mask_token": torch.zeros(1)}
    torch.save({wrapper: tensors} if wrapper else tensors, tmp_path / "weights.pt")
    encoder = make_encoder()
    report = load_weights(encoder, tmp_path / "weights.pt")
    assert_same(encoder, tensors, prefix)
    assert report.unexpected == ["decoder.mask_token"]


def test_safetensors_load(tmp_path):
    tensors = make_segmenter().state_dict()
    save_file(tensors, tmp_path / "weights.safetensors", metadata={"format": "pt"})
    model = make_segmenter()
    load_weights(model, tmp_path / "weights.safetensors")
    assert_same(model, tensors)


@pytest.mark.parametrize("name", ["burn_scars_64", "crop_64"])
def test_mmseg_checkpoints_load_completely(golden, golden_segmenter, name):
    model = golden_segmenter(name)
    report = load_weights(model, golden / "models" / f"{name}.pth")
    assert len(report.matched) == len(model.state_dict())
    assert not report.missing + report.unexpected + report.reshaped


def mmseg_file(path, meta):
    tensors = {
        key.replace("encoder.", "backbone.", 1): value for key, value in make_segmenter().state_dict().items()
    }
    torch.save({"meta": meta, "state_dict": OrderedDict(tensors), "optimizer": {"param_groups": []}}, path)
    return tensors


def test_mmseg_checkpoints_with_numpy_scalars_load(tmp_path):
    meta = {
        "CLASSES": (0, 1),
        "lr": np.float64(1e-5),
        "single": np.float32(0.5),
        "iter": np.int64(3),
        "flag": np.bool_(True),
        "dtype": np.dtype("int16"),
    }
    tensors = mmseg_file(tmp_path / "burn.pth", meta)
    model = make_segmenter()
    load_weights(model, tmp_path / "burn.pth")
    torch.testing.assert_close(model.encoder.cls_token.data, tensors["backbone.cls_token"])
    assert read_checkpoint(tmp_path / "burn.pth").meta["meta"]["lr"] == 1e-5


@pytest.mark.parametrize("legacy_format", [False, True])
def test_any_other_pickled_global_is_refused_and_runs_nothing(tmp_path, legacy_format):
    victim = tmp_path / "victim"
    content = {"state_dict": make_segmenter().state_dict(), "meta": Touch(victim)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy_format)
    with pytest.raises(CheckpointError, match=r"evil\.pth: refused, because reading it could run code"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"II*\0 a raster", b"model:\n  class_path: Task\n", b""])
def test_a_file_of_another_kind_is_not_a_checkpoint(tmp_path, content):
    (tmp_path / "other.tif").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.tif: not a checkpoint$"):
        read_checkpoint(tmp_path / "other.tif")


def test_the_refusal_of_a_pickle_does_not_advise_to_run_its_code(tmp_path):
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Touch(tmp_path / "victim"), protocol=4))
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(tmp_path / "evil.ckpt")
    assert "weights_only" not in str(refusal.value)
    assert "trusted" not in str(refusal.value)


def test_a_bare_pickle_is_refused_and_runs_nothing(tmp_path):
    victim = tmp_path / "victim"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Touch(victim)))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.pt", None, "no such file"),
        ("text.pt", b"not weights at all", "text.pt: "),
        ("text.safetensors", b"not weights at all", "not a readable safetensors file"),
        ("empty.pt", b"", "empty.pt: "),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / name)


def test_a_truncated_checkpoint_is_named(tmp_path):
    torch.save(encoder_tensors(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"half\.pt: not a readable checkpoint"):
        read_checkpoint(tmp_path / "half.pt")


def test_missing_tensors_are_an_error_unless_allowed(tmp_path):
    tensors = encoder_tensors()
    del tensors["blocks.1.attn.qkv.bias"]
    torch.save(tensors, tmp_path / "part.pt")
    encoder = make_encoder()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"lacks 1 tensors that the model needs: encoder\.blocks\.1\.attn\.qkv\.bias"
    ):
        load_weights(encoder, tmp_path / "part.pt")
    assert_same(encoder, before)
    report = load_weights(encoder, tmp_path / "part.pt", allow_missing=True)
    assert report.missing == ["encoder.blocks.1.attn.qkv.bias"]
    torch.testing.assert_close(encoder.cls_token.data, tensors["cls_token"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"width": 64},
            r"different architecture: encoder\.\w+.* is \(.*32.*\), but the model's is|pos_embed is",
        ),
        ({"depth": 1}, r"blocks that the model lacks .*truncate_depth: true"),
        ({"depth": 3}, r"lacks 12 tensors"),
        (
            {"patch_size": 8},
            r"patch_embed\.proj\.weight is \(32, 6, 1, 16, 16\), but the model's is \(32, 6, 1, 8, 8\)",
        ),
    ],
)
def test_another_architecture_is_an_error_that_names_the_key_to_change(tmp_path, overrides, message):
    torch.save(encoder_tensors(), tmp_path / "weights.pt")
    advice = "choose the encoder of the file, or set its sizes with encoder_args"
    with pytest.raises(CheckpointError, match=f"(?:{message}).*{advice}$"):
        load_weights(make_encoder(**overrides), tmp_path / "weights.pt")
    own = tmp_path / "own.ckpt"
    described = {"encoder": "nano", "encoder_args": SIZE}
    torch.save({"state_dict": encoder_tensors(), "hyper_parameters": described}, own)
    advice = re.escape(f"set encoder and encoder_args to those of the file, nano with encoder_args {SIZE}")
    with pytest.raises(CheckpointError, match=f"(?:{message}).*{advice}$"):
        load_weights(make_encoder(**overrides), own)


def test_the_report_of_an_encoder_counts_the_rest_of_a_fine_tuned_model_as_left_out(tmp_path):
    torch.save(make_segmenter().state_dict(), tmp_path / "fine_tuned.pth")
    encoder = make_encoder()
    report = load_weights(encoder, tmp_path / "fine_tuned.pth")
    matched, others = len(encoder.state_dict()), len(report.unexpected)
    assert str(report) == (
        f"{tmp_path}/fine_tuned.pth: {matched} weight tensors loaded; only the encoder is loaded; {others} tensors "
        "are left out, of the neck, the decode head, the auxiliary head"
    )
    bare = make_segmenter()
    bare.auxiliary_head = None
    assert " unexpected (auxiliary_head." in str(load_weights(bare, tmp_path / "fine_tuned.pth"))


def test_buffers_of_a_loss_are_left_out(tmp_path):
    model = make_segmenter()
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save(tensors | {"criterion.weight": torch.ones(2)}, tmp_path / "own_loss.pth")
    report = str(load_weights(model, tmp_path / "own_loss.pth"))
    assert report.endswith(
        f"{len(tensors)} weight tensors loaded; 1 tensor is left out, of the loss (only for training)"
    )


def test_the_first_blocks_can_be_loaded_on_request(tmp_path):
    torch.save(encoder_tensors(), tmp_path / "weights.pt")
    report = load_weights(make_encoder(depth=1), tmp_path / "weights.pt", truncate_depth=True)
    assert all(key.startswith("encoder.blocks.1.") for key in report.unexpected)
    assert len(report.unexpected) == 12


def test_two_dimensional_patch_embeddings_are_reshaped(tmp_path):
    tensors = encoder_tensors()
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"].squeeze(2)
    torch.save(tensors, tmp_path / "flat.pt")
    assert load_weights(make_encoder(), tmp_path / "flat.pt").reshaped == ["encoder.patch_embed.proj.weight"]


def test_another_position_table_gives_a_warning(tmp_path):
    tensors = encoder_tensors()
    tensors["pos_embed"] = tensors["pos_embed"] + 0.01
    torch.save(tensors, tmp_path / "learnt.pt")
    with pytest.warns(UserWarning, match="position table differs by up to 0.01"):
        load_weights(make_encoder(), tmp_path / "learnt.pt")


def task_of(bands, **options):
    size = {"encoder": "nano", "encoder_args": SIZE, "decoder": "linear", "num_classes": 2}
    return PrithviSegmentationTask(bands=bands, **size, **options)


def own_file(bands, kind, folder):
    """A task with these bands, and its weights in a file of this package."""
    task = task_of(bands)
    path = folder / f"own.{kind}"
    if kind == "safetensors":
        export_weights(task, path)
    else:
        torch.save({"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}, path)
    return task, path


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["RED", "GREEN", "BLUE", "NIR_NARROW", "SWIR_1", "SWIR_2"], None),  # None: the same bands
        (["RED", "GREEN", "BLUE", "NIR_NARROW", "SWIR_1", "SWIR_2"], ["BLUE", "GREEN", "RED"]),
        (["RED", "BLUE"], None),
        (["RED", "BLUE"], ["BLUE", "RED"]),
        (["SWIR_1", "VV", "RED", "BLUE"], ["VV"]),
        (["VV", "VH", "RED", "BLUE", "GREEN", "SWIR_1"], ["SWIR_1", "GREEN", "BLUE", "RED", "VH", "VV"]),
    ],
)
def test_bands_of_own_weights_are_matched_by_the_names_in_the_file(before, now, kind, tmp_path):
    first, path = own_file(before, kind, tmp_path)
    second = task_of(now or before, weights=str(path))
    theirs, ours = (task.model.encoder.patch_embed.proj.weight for task in (first, second))
    for place, band in enumerate(now or before):
        assert torch.equal(ours[:, place], theirs[:, before.index(band)]), band
    loaded = load_task(path).model.encoder.patch_embed.proj.weight
    assert torch.equal(loaded, theirs)


def test_missing_bands_of_weights_must_be_allowed_explicitly(tmp_path):
    _, path = own_file(["BLUE", "GREEN", "RED", "NIR_NARROW"], "ckpt", tmp_path)
    bands = ["SWIR_1", "SWIR_2", "RED", "NIR_NARROW"]
    with pytest.raises(CheckpointError, match=r"not trained on SWIR_1, SWIR_2; set allow_new_bands: true"):
        task_of(bands, weights=str(path))
    encoder = make_encoder(num_bands=4)
    report = load_weights(encoder, path, bands=bands, allow_new_bands=True)
    assert report.bands == {"SWIR_1": "new", "SWIR_2": "new", "RED": "kept", "NIR_NARROW": "kept"}


def test_channels_beyond_the_named_bands_are_not_matched(tmp_path):
    """A subclass may add channels, such as an index, to those of its bands."""
    tensors = make_encoder(num_bands=3).state_dict()
    file = Checkpoint(
        tmp_path / "own.ckpt", {f"encoder.{k}": v for k, v in tensors.items()}, {"bands": ["A", "B"]}, {}
    )
    load_weights(make_encoder(num_bands=3), file, bands=["A", "B"])
    with pytest.raises(CheckpointError, match=r"embedding of the file has 3 channels for 2 bands \(A B\)"):
        load_weights(make_encoder(num_bands=2), file, bands=["B", "A"])


def test_a_file_with_unknown_bands_is_loaded_by_position_with_a_warning(tmp_path):
    tensors = {f"encoder.{key}": value for key, value in make_encoder(num_bands=3).state_dict().items()}
    encoder = make_encoder(num_bands=3)
    report = load_weights(
        encoder, Checkpoint(tmp_path / "a.pt", tensors, {}, {}), bands=["RED", "GREEN", "BLUE"]
    )
    assert "RED by position" in str(report)
    assert_same(encoder, tensors, "encoder.")

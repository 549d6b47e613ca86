"""Recipes of the published comparison: each combination has the model of its protocol, and trains and is tested."""

import itertools
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.datasets import HLSBurnScars, MultiTemporalCropClassification, Sen1Floods11
from prithvi_tg.datasets.synthetic import LAYOUTS
from prithvi_tg.reporting.published import PUBLISHED

pytestmark = pytest.mark.version_independent

RECIPES = Path(__file__).parents[1] / "configs/published"
#: Encoder -> width, depth, patch, and whether it encodes time and place.
ENCODERS = {
    "v1_100m": (768, 12, 16, False),
    "v2_100m_tl": (768, 12, 16, True),
    "v2_300m": (1024, 24, 16, False),
    "v2_600m": (1280, 32, 14, False),
}
DATA = {"burn_scars": HLSBurnScars, "floods": Sen1Floods11, "crops": MultiTemporalCropClassification}
TUNINGS = ("linear_probe", "full", "lora")


def files(*names):
    return [word for name in ("base", *names) for word in ("--config", RECIPES / f"{name}.yaml")]


def parsed(command, *names):
    """The settings of a combination, as the command line reads them."""
    code, out, err = command("fit", *files(*names), "--print_config")
    assert code == 0, err
    return yaml.safe_load(out)


def build(settings, data):
    """The task of a combination on the meta device, with random weights."""
    spec = DATA[data].data_spec()
    arguments = settings["model"]["init_args"] | {"weights": None}
    for key in ("bands", "num_classes", "num_frames"):
        arguments.pop(key, None)
    with torch.device("meta"):
        return PrithviSegmentationTask(
            **arguments, num_classes=len(spec.target.names), num_frames=spec.input.num_frames
        )


def encoder_parameters(width, depth, patch, coordinates):
    """Patch embedding, class token, blocks, last norm, and the scales of time and place."""
    block = 12 * width**2 + 13 * width
    return depth * block + 6 * patch**2 * width + width + width + 2 * width + 2 * coordinates


def counts(task):
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in task.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_combination_has_the_parameters_of_its_protocol(data, encoder, command):
    width, depth, patch, coordinates = ENCODERS[encoder]
    frames, classes = {"crops": (3, 13)}.get(data, (1, 2))
    backbone = encoder_parameters(width, depth, patch, coordinates)
    head = frames * width * classes * patch**2 + classes
    adapters = depth * 14 * width * 16  # query and value 2 x 2 D r, two layers of the MLP 2 x 5 D r
    trained = {"linear_probe": head, "full": backbone + head, "lora": adapters + head}
    for tuning in TUNINGS:
        settings = parsed(command, data, encoder, tuning)
        check_protocol(settings, data)
        more = adapters if tuning == "lora" else 0
        assert counts(build(settings, data)) == (backbone + head + more, trained[tuning])


def check_protocol(settings, data):
    """The part of the protocol that is common to all combinations."""
    model, given = settings["model"]["init_args"], settings["data"]["init_args"]
    assert (model["schedule"], model["schedule_args"]) == ("plateau", {"patience": 4, "factor": 0.5})
    assert (model["optimizer"], model["weight_decay"]) == (
        "adamw",
        torch.optim.AdamW([torch.zeros(1)]).defaults["weight_decay"],
    )
    assert (model["loss"], model["class_weights"], model["monitor"]) == ("ce", None, "val_loss")
    assert model["window"] == {"crops": 224}.get(data, 512)
    assert (given["batch_size"], given["crop_size"], given["random_flip_rot90"]) == (8, None, True)
    assert settings["trainer"]["max_epochs"] == 100
    (stopping,) = settings["trainer"]["callbacks"]
    assert stopping["class_path"].endswith("EarlyStopping")
    assert (stopping["init_args"]["monitor"], stopping["init_args"]["patience"]) == ("val_loss", 15)


@pytest.mark.parametrize(
    ("encoder", "adapters", "head"), [("v2_300m", 5_505_024, 2_050), ("v1_100m", 2_064_384, 1_538)]
)
def test_low_rank_adapters_and_a_head_of_one_convolution_have_the_known_sizes(
    encoder, adapters, head, command
):
    task = build(parsed(command, "burn_scars", encoder, "lora", "linear_head"), "burn_scars")
    assert (
        sum(parameter.numel() for name, parameter in task.named_parameters() if "lora_" in name) == adapters
    )
    assert counts(task)[1] == adapters + head


def test_the_unet_has_a_resnet_50_from_scratch_and_the_decoder_of_the_library(command):
    for data in ("burn_scars", "floods"):
        settings = parsed(command, data, "unet")
        check_protocol(settings, data)
        assert settings["model"]["init_args"]["weights"] is None
        total, trained = counts(build(settings, data))
        with torch.device("meta"):
            library = smp.Unet("resnet50", encoder_weights=None, in_channels=6, classes=2)
        heads = 16 * 2 + 2 - (16 * 2 * 9 + 2)  # ours is a 1 x 1 convolution, the library's a 3 x 3 one
        assert total == trained == sum(p.numel() for p in library.parameters()) + heads
    assert counts(build(parsed(command, "crops", "unet"), "crops"))[0] > total


def test_data_sets_have_the_splits_and_statistics_of_the_protocol(command):
    burn, floods, crops = (parsed(command, data, "v1_100m", "full")["data"] for data in DATA)
    assert burn["init_args"]["splits"] == "non_overlapping"
    assert burn["init_args"]["mean"][0] == 0.0525628887
    assert floods["init_args"]["test_split"] == ["test", "bolivia"]
    assert floods["init_args"]["std"][3] == 0.11798815
    assert crops["class_path"].endswith("MultiTemporalCropDataModule")
    assert crops["init_args"]["mean"] is None
    roots = [data["init_args"]["root"] for data in (burn, floods, crops)]
    assert roots == ["data/hls_burn_scars", "data/sen1floods11", "data/multi_temporal_crop"]


@pytest.mark.parametrize(("data", "tuning"), itertools.product(("burn_scars", "floods"), (*TUNINGS, "unet")))
def test_recipes_follow_the_protocol_of_the_published_results(data, tuning, command):
    for encoder in ["resnet50"] if tuning == "unet" else ["v1_100m", "v2_100m_tl", "v2_300m"]:
        names = (data, tuning) if tuning == "unet" else (data, encoder, tuning)
        arguments = parsed(command, *names)["model"]["init_args"]
        result = PUBLISHED[f"peft_geofm/{data}/{encoder}/{tuning}"]
        if result.lr is not None:
            assert arguments["lr"] == pytest.approx(
                result.lr, rel=2
            )  # of that size; the study gives the published one
            arguments["lr"] = result.lr
        assert result.protocol.difference(arguments) is None


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Synthetic chips in each published layout."""
    top = tmp_path_factory.mktemp("published")
    layouts = {"burn_scars": "hls_burn_scars", "floods": "sen1floods11", "crops": "multi_temporal_crop"}
    sizes = {"sen1floods11": {"scene_size": (64, 64)}}  # its scene is not used
    return {
        data: LAYOUTS[layout](top / data, chips=6, size=32, **sizes.get(layout, {}))
        for data, layout in layouts.items()
    }


@pytest.mark.parametrize(
    ("tuning", "data"),
    [("linear_probe", "burn_scars"), ("full", "floods"), ("lora", "crops"), ("unet", "crops")],
)
def test_each_tuning_and_each_dataset_trains_and_is_tested_offline(data, tuning, roots, tmp_path, command):
    options = [
        f"--data.root={roots[data]}", "--model.window=32", "--model.encoder_args={width: 32, depth: 2, num_heads: 2}",
        f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]  # fmt: skip
    options += {
        "burn_scars": ["--data.splits=null"],  # the synthetic chips are not those of the list
        "floods": [f"--data.splits={roots[data] / 'splits.csv'}"],
    }.get(data, [])
    if tuning == "unet":
        options += [
            "--model.encoder=timm/test_resnet",
            "--model.encoder_args=null",
            "--model.head_channels=32",
        ]
    configs = files(data, "nano", tuning)
    code, out, err = command("fit", *configs, *options)
    assert code == 0, err
    best = tmp_path / "version_0/checkpoints/best.ckpt"
    code, out, err = command("test", *configs, *options, "--ckpt_path", best)
    assert code == 0, err
    assert ("bolivia" in out) == (data == "floods")

"""Small models of all kinds for tests of exports."""

import torch

from prithvi_tg import PrithviClassificationTask, PrithviPixelwiseRegressionTask, PrithviSegmentationTask
from prithvi_tg.exporting.function import example_inputs
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget, ClassTarget, ValueTarget

TINY = {"width": 32, "depth": 1, "num_heads": 2}
CLASSES = ClassTarget(("dry", "water", "cloud"), ("#aa0000", "#0000ff", "#ffffff"))
VALUES = ValueTarget(("height", "biomass"), ("m", "t/ha"), mean=(12.0, 80.0), std=(5.0, 40.0))
CHIPS = ChipClassTarget(("forest", "city"), multilabel=True)


def build(target, frames=1, encoder="nano", **arguments):
    torch.manual_seed(0)
    bands = ("BLUE", "GREEN", "RED")
    mean, std = (900.0, 1100.0, 1300.0), (400.0, 500.0, 600.0)
    spec = DataSpec(InputSpec(bands, mean, std, num_frames=frames, metadata=encoder.endswith("_tl")), target)
    kinds = {
        ClassTarget: PrithviSegmentationTask,
        ValueTarget: PrithviPixelwiseRegressionTask,
        ChipClassTarget: PrithviClassificationTask,
    }
    if not isinstance(target, ChipClassTarget):
        arguments = {"window": 32, "head_channels": 8, **arguments}
    args = {} if encoder.startswith("timm/") else TINY
    if arguments.get("decoder") == "fpn":
        args = TINY | {"depth": 4}  # it takes the tokens of four layers
    task = kinds[type(target)](
        encoder=encoder,
        encoder_args=args,
        bands=bands,
        num_frames=frames,
        data_spec=spec.to_dict(),
        **arguments,
    )
    for module in task.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return task.eval()


MODELS = {
    "linear": lambda: build(CLASSES, decoder="linear"),
    "published, 3 frames": lambda: build(CLASSES, frames=3),
    "published, places and dates": lambda: build(CLASSES, frames=2, encoder="prithvi_eo_v2_tiny_tl"),
    "fpn": lambda: build(CLASSES, decoder="fpn"),
    "unet of a CNN": lambda: build(CLASSES, encoder="timm/resnet18", decoder="unet"),
    "values": lambda: build(VALUES, decoder="linear"),
    "classes of chips": lambda: build(CHIPS, frames=2),
}


def expected(task, inputs):
    """Outputs of the task for raw inputs: logits, or values in their unit."""
    image = task.data_spec.input.normalize(inputs["image"]).nan_to_num(0)
    with torch.no_grad():
        outputs = task(image, **{key: value for key, value in inputs.items() if key != "image"})
    return task.to_unit(outputs) if task.target_kind == "values" else outputs


def inputs_of(task, batch):
    inputs = example_inputs(task, 32, batch)
    if "timestamps" in inputs:
        inputs["timestamps"][0, 0] = float("nan")
    return inputs

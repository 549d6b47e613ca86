import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prithvi_tg.errors import ConfigError
from prithvi_tg.tasks.losses import LOSSES, FocalLoss, create_loss

pytestmark = pytest.mark.version_independent

CROP_WEIGHTS = [
    0.386375, 0.661126, 0.548184, 0.640482, 0.876862, 0.925186, 3.249462,
    1.542289, 2.175141, 2.272419, 3.062762, 3.626097, 1.198702,
]  # fmt: skip
# Task, our loss, the label that its golden arrays ignore.
SEED = [
    ("burn_scars", ("dice_legacy", None), -1),
    ("sen1floods11", ("ce", [0.3, 0.7]), 2),
    ("crop", ("ce", CROP_WEIGHTS), 255),
]


@pytest.mark.parametrize("case", ["mixed", "none_ignored", "one_sample_ignored", "all_ignored"])
@pytest.mark.parametrize(("name", "loss", "ignored"), SEED)
def test_losses_and_gradients_equal_the_golden_results(golden, name, loss, ignored, case):
    arrays = np.load(golden / "losses" / "raw_losses.npz")
    logits = torch.tensor(arrays[f"{name}.logits"], requires_grad=True)
    mask = torch.tensor(arrays[f"{name}.labels.{case}"].astype(np.int64))
    mask[mask == ignored] = 255
    value = create_loss(*loss)(logits, mask)
    value.backward()
    assert value.item() == pytest.approx(float(arrays[f"{name}.loss.{case}"]), abs=1e-5)
    gradient = arrays[f"{name}.grad.{case}"]
    np.testing.assert_allclose(logits.grad, gradient, rtol=0, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_nothing(name):
    if name == "dice_legacy":
        pytest.skip("its denominator counts ignored pixels: that is the trait it keeps")
    torch.manual_seed(0)
    logits, mask = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    mask[:, 4:] = 255
    changed = logits.clone()
    changed[:, :, 4:] += 5
    loss = create_loss(name)
    torch.testing.assert_close(loss(logits, mask), loss(changed, mask))


@pytest.mark.parametrize("name", ["ce", "focal", "lovasz"])
def test_a_batch_without_labels_gives_zero_and_zero_gradients(name):
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    value = create_loss(name)(logits, torch.full((1, 8, 8), 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_perfect_prediction_has_loss_zero():
    mask = torch.randint(0, 3, (2, 16, 16))
    logits = torch.nn.functional.one_hot(mask, 3).movedim(-1, 1) * 100.0
    for name in LOSSES:
        assert create_loss(name)(logits, mask).item() == pytest.approx(0, abs=1e-4), name


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits, mask = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    mask[0, :3] = 255
    weights = [0.5, 1.0, 2.0]
    torch.testing.assert_close(
        FocalLoss(gamma=0, class_weights=weights)(logits, mask), create_loss("ce", weights)(logits, mask)
    )


def test_half_precision_logits_are_computed_in_float32():
    logits, mask = torch.randn(1, 3, 8, 8).bfloat16(), torch.randint(0, 3, (1, 8, 8))
    for name in LOSSES:
        assert create_loss(name)(logits, mask).dtype == torch.float32, name


#: Operations of torch's documentation of `use_deterministic_algorithms` that raise an error on CUDA.
NOT_DETERMINISTIC = {"nll_loss2d_forward", "nll_loss2d_backward", "histc", "median", "put_", "kthvalue"}


class Recorded(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_use_only_deterministic_operations_on_cuda(name):
    logits, mask = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randint(0, 3, (2, 8, 8))
    with Recorded() as recorded:
        create_loss(name)(logits, mask).backward()
    assert recorded.names
    assert not recorded.names & NOT_DETERMINISTIC


@pytest.mark.skipif(not torch.cuda.is_available(), reason="which operations refuse is known on CUDA only")
@pytest.mark.parametrize("name", LOSSES)
def test_losses_run_on_cuda_with_deterministic_algorithms(name):
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    mask[0, :3] = 255
    values = []
    torch.use_deterministic_algorithms(True)
    try:
        for device in ("cpu", "cuda"):
            here = logits.to(device).requires_grad_()
            value = create_loss(name).to(device)(here, mask.to(device))
            value.backward()
            values.append((value.item(), here.grad.cpu()))
    finally:
        torch.use_deterministic_algorithms(False)
    assert values[0][0] == pytest.approx(values[1][0], abs=1e-5)
    torch.testing.assert_close(values[0][1], values[1][1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0], [0.0, 1.0, 1.0]])
def test_cross_entropy_and_its_gradient_are_those_of_torch(weights):
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 8, 8) * 5, torch.randint(0, 3, (2, 8, 8))
    mask[0, :3] = 255
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = create_loss("ce", weights)(ours, mask)
    weight = None if weights is None else torch.tensor(weights)
    expected = torch.nn.functional.cross_entropy(theirs, mask, weight, ignore_index=255, reduction="sum")
    expected = expected / (mask != 255).sum()
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", ["ce", "focal"])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, float("nan")], "class_weights: nan of class 1 must be a finite number"),
        ([float("inf"), 1.0], "class_weights: inf of class 0 must be"),
        ([1.0, -0.5], "class_weights: -0.5 of class 1 must be"),
        ([0.0, 0.0], "class_weights: all are 0"),
    ],
)
def test_errors_about_class_weights_name_the_key_and_the_class(name, weights, message):
    with pytest.raises(ConfigError, match=message):
        create_loss(name, weights)


def test_errors_about_losses_name_the_key():
    with pytest.raises(ConfigError, match="loss: 'mse' is unknown; choose from ce, dice"):
        create_loss("mse")
    with pytest.raises(ConfigError, match="class_weights: not supported by the loss 'dice'"):
        create_loss("dice", [1, 2])

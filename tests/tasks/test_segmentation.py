import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, golden_input
from lightning.pytorch import Callback, Trainer

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule, load_task, load_weights
from prithvi_tg.callbacks import BestCheckpoint, LastCheckpoint
from prithvi_tg.compat import SemanticSegmentationTask
from prithvi_tg.errors import CheckpointError, ConfigError, DataError
from prithvi_tg.targets import ClassTarget


@pytest.fixture
def golden_task(golden):
    """The task in which the golden training step was computed: burn scars without dropout."""
    task = PrithviSegmentationTask(
        encoder="nano",
        encoder_args={"width": 64, "depth": 2, "num_heads": 4},
        head_channels=16,
        loss="dice_legacy",
        num_classes=2,
    )
    load_weights(task.model, golden / "models" / "burn_scars_64.pth")
    for module in task.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0
    return task.train()


@pytest.fixture
def golden_batch(golden):
    arrays = np.load(golden / "losses" / "train_burn_scars_64.npz")
    mask = torch.from_numpy(arrays["labels"][:, 0].astype(np.int64))
    mask[mask == -1] = 255
    return arrays, {"image": golden_input(arrays, "input_q"), "mask": mask}


def key_of(name):
    return name.replace("backbone.", "encoder.", 1)


def test_a_training_step_equals_the_golden_step(golden_task, golden_batch):
    arrays, batch = golden_batch
    model = golden_task.model
    logits, auxiliary = model.forward_both(batch["image"])
    decode_loss, auxiliary_loss = (golden_task.criterion(x, batch["mask"]) for x in (logits, auxiliary))
    assert decode_loss.item() == pytest.approx(float(arrays["out.decode.loss_dice"]), abs=1e-5)
    assert auxiliary_loss.item() == pytest.approx(float(arrays["out.aux.loss_dice"]), abs=1e-5)
    (decode_loss + auxiliary_loss).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    compared = 0
    for name in arrays:
        kind, _, key = name.partition(".")
        if kind == "grad":
            ours, theirs = gradients[key_of(key)].numpy(), arrays[name]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max(), err_msg=key)
            compared += 1
        elif kind == "gradnorm" and arrays[name] >= 0:
            assert gradients[key_of(key)].norm().item() == pytest.approx(float(arrays[name]), rel=1e-4), key
        elif kind == "after":
            np.testing.assert_allclose(
                model.state_dict()[key], arrays[name], rtol=1e-5, atol=1e-6, err_msg=key
            )
    assert compared == 38


def test_the_task_adds_both_losses(golden_task, golden_batch):
    arrays, batch = golden_batch
    loss = golden_task.training_step(batch, 0)
    assert loss.item() == pytest.approx(float(arrays["loss_total"]), abs=1e-5)


def test_the_logged_training_loss_is_that_of_the_head_that_is_validated(golden_task, golden_batch):
    arrays, batch = golden_batch
    logged = {}
    golden_task.log = lambda name, value, **_: logged.update({name: float(value)})
    golden_task.training_step(batch, 0)
    names = {"train_loss": "out.decode.loss_dice", "train_loss_auxiliary": "out.aux.loss_dice"}
    assert logged == {name: pytest.approx(float(arrays[key]), abs=1e-5) for name, key in names.items()}


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("traj_sgd", lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9)),
        ("traj_cfgopt", lambda parameters: torch.optim.Adam(parameters, lr=1e-4)),
    ],
)
def test_six_training_steps_follow_the_golden_trajectory(golden_task, golden_batch, name, optimizer):
    # In double precision: rounding in single precision depends on the number of threads and can change the sign of
    # a unit before its ReLU; six steps of SGD then differ by 9e-3.
    arrays, batch = golden_batch
    batch["image"] = batch["image"].double()
    stepper = optimizer(golden_task.double().model.parameters())
    losses = []
    for _ in range(6):
        stepper.zero_grad()
        loss = golden_task.training_step(batch, 0)
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, arrays[f"{name}.loss"], atol=1e-5)
    with torch.inference_mode():
        logits = golden_task.eval()(batch["image"])
    np.testing.assert_allclose(logits[..., ::5, ::5], arrays[f"{name}_final_eval_logits_sub"], atol=2e-4)


def trainer(folder, **arguments):
    defaults = {"max_epochs": 1, "log_every_n_steps": 1}
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(defaults | arguments),
    )


def flood_data(root, **arguments):
    return Sen1Floods11DataModule(root, batch_size=2, crop_size=32, splits=root / "splits.csv", **arguments)


def callbacks(task, folder):
    found = [BestCheckpoint(task.monitor, task.mode), LastCheckpoint()]
    for callback in found:
        callback.dirpath = str(folder)
    return found


def test_a_checkpoint_describes_itself(tiny_task, flood_root, tmp_path):
    data = flood_data(flood_root)
    trainer(tmp_path, callbacks=callbacks(tiny_task, tmp_path)).fit(tiny_task, data)
    for name in ("best.ckpt", "last.ckpt"):
        task = load_task(tmp_path / name)
        assert task.data_spec == data.spec
        assert task.class_names == ["No water", "Water"]
        assert task.hparams["window"] == 32
        image = torch.randn(1, 1, 6, 40, 50)
        torch.testing.assert_close(task.forward_windows(image), tiny_task.eval().forward_windows(image))
    assert "optimizer_states" not in torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert "optimizer_states" in torch.load(tmp_path / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    "arguments",
    [{"max_steps": 1, "max_epochs": -1}, {"limit_val_batches": 0}, {"check_val_every_n_epoch": 9}],
)
def test_last_and_best_exist_after_a_very_short_run(tiny_task, flood_root, tmp_path, arguments):
    data = flood_data(flood_root, crops_per_chip=3)
    run = trainer(tmp_path, callbacks=callbacks(tiny_task, tmp_path), num_sanity_val_steps=0, **arguments)
    run.fit(tiny_task, data)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_an_error_about_an_unknown_monitor_lists_logged_metrics(tiny_task, flood_root, tmp_path):
    best = BestCheckpoint("val_mIou", "max")
    best.dirpath = str(tmp_path)
    with pytest.raises(
        ConfigError, match=r"monitor: 'val_mIou' is not logged; did you mean val_mIoU\? validation logs "
    ):
        trainer(tmp_path, callbacks=[best]).fit(tiny_task, flood_data(flood_root))


@pytest.mark.parametrize(("monitor", "mode"), [("val_mIoU", "max"), ("val_loss", "min")])
def test_the_mode_follows_from_the_metric(monitor, mode):
    task = PrithviSegmentationTask(encoder="nano", encoder_args=TINY, num_classes=2, monitor=monitor)
    assert task.mode == mode


@pytest.mark.parametrize(
    ("method", "body"),
    [
        (
            "configure_losses",
            lambda task: setattr(task, "criterion", torch.nn.CrossEntropyLoss(ignore_index=255)),
        ),
        ("create_optimizer", lambda task: torch.optim.SGD(task.parameters(), lr=0.1)),
        ("create_schedule", lambda task, optimizer, steps: torch.optim.lr_scheduler.StepLR(optimizer, 1)),
    ],
)
def test_overriding_one_method_changes_one_thing(flood_root, tmp_path, method, body):
    called = []

    def recorded(*arguments):
        called.append(method)
        return body(*arguments)

    subclass = type("Mine", (PrithviSegmentationTask,), {method: recorded})
    task = subclass(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, warmup_steps=1
    )
    assert isinstance(task, SemanticSegmentationTask)
    trainer(tmp_path, fast_dev_run=True).fit(task, flood_data(flood_root))
    assert called == [method]


def test_test_scores_count_every_labelled_pixel_once(tiny_task, flood_root, tmp_path):
    data = flood_data(flood_root)
    trainer(tmp_path).test(tiny_task, data, verbose=False)
    labelled = sum(int((sample["mask"] != 255).sum()) for sample in data.test_dataset)
    assert int(tiny_task.confusion.sum()) == labelled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "num_classes: not known from the data module"),
        ({"num_classes": 2, "class_weights": [1.0]}, "class_weights: 1 weight for 2 classes"),
    ],
)
def test_errors_about_invalid_settings_name_the_key(arguments, message):
    with pytest.raises(ConfigError, match=message):
        PrithviSegmentationTask(encoder="nano", encoder_args=TINY, **arguments)


def test_data_with_other_classes_are_refused(flood_root, tmp_path):
    task = PrithviSegmentationTask(encoder="nano", encoder_args=TINY, num_classes=3, window=32)
    with pytest.raises(
        ConfigError, match=r"num_classes: the model has 3, but the data have 2 \(No water, Water\)"
    ):
        trainer(tmp_path).fit(task, flood_data(flood_root))


def test_a_task_of_another_package_is_not_imported_from_a_checkpoint(tiny_task, tmp_path):
    state = {"state_dict": tiny_task.state_dict(), "hyper_parameters": dict(tiny_task.hparams)}
    torch.save(state | {"task_class": "torch.nn.Linear"}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"its task torch.nn.Linear is not"):
        load_task(tmp_path / "other.ckpt")
    torch.save(state | {"task_class": "no.such.Task"}, tmp_path / "gone.ckpt")
    with pytest.raises(CheckpointError, match=r"no.such.Task, which cannot be imported"):
        load_task(tmp_path / "gone.ckpt")


def test_a_prediction_caches_weights_and_the_next_one_uses_every_change(tiny_task, tmp_path):
    """Weight averaging writes to ``parameter.data``, which torch's version counters do not see."""
    batches = [{"image": torch.randn(1, 1, 6, 32, 32)} for _ in range(2)]
    data = torch.utils.data.DataLoader(batches, batch_size=None)
    caches = []

    class Seen(Callback):
        def on_predict_batch_end(self, trainer, task, *_):
            caches.append(task._predict_cache)

    run = trainer(tmp_path, callbacks=[Seen()])
    before = run.predict(tiny_task, data)
    assert caches[0] is caches[1]
    assert len(caches[0]._values) == 1
    for parameter in tiny_task.parameters():
        parameter.data.mul_(1.5)
    direct = tiny_task.eval().predict_step(batches[0], 0)
    after = run.predict(tiny_task, data)
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(after[0], direct, atol=1e-5, rtol=1e-5)


def test_testing_on_other_data_does_not_change_the_task(tiny_task, flood_root, tmp_path):
    data = flood_data(flood_root)
    trainer(tmp_path).test(tiny_task, data, verbose=False)
    assert tiny_task.data_spec is None  # only a fit tells it
    assert tiny_task.class_names == ["No water", "Water"]
    known = data.spec.with_input(scale=2 * data.spec.input.scale)
    tiny_task.hparams["data_spec"] = known.to_dict()
    with pytest.warns(UserWarning, match="scale: the model was trained with"):
        trainer(tmp_path).validate(tiny_task, data, verbose=False)
    assert tiny_task.data_spec == known
    trainer(tmp_path, fast_dev_run=True).fit(tiny_task, data)
    assert tiny_task.data_spec == data.spec


@pytest.mark.parametrize("stage", ["validate", "test"])
@pytest.mark.parametrize(
    "change", [{"mean": (1.0,) * 6}, {"std": (1.0,) * 6}, {"class_names": ("Water", "No water")}]
)
def test_a_model_is_not_scored_on_data_with_other_statistics(tiny_task, flood_root, tmp_path, stage, change):
    data = flood_data(flood_root)
    (key,) = change
    other = (
        replace(data.spec, target=ClassTarget(change[key]))
        if key == "class_names"
        else data.spec.with_input(**change)
    )
    tiny_task.hparams["data_spec"] = other.to_dict()
    with pytest.raises(ConfigError, match=f"{key}: the model was trained with .*, but the data module has"):
        getattr(trainer(tmp_path), stage)(tiny_task, data, verbose=False)


class Masks(torch.utils.data.Dataset):
    """Random images with given labels."""

    def __init__(self, masks):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(len(masks), 1, 6, 32, 32, generator=generator)
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return {"image": self.images[index], "mask": self.masks[index]}


def masks_with(labelled):
    """Random labels (N, 32, 32) with a number of labelled pixels in each."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 2, (len(labelled), 32 * 32), generator=generator)
    for mask, count in zip(masks, labelled, strict=True):
        mask[count:] = 255
    return masks.view(-1, 32, 32)


@pytest.mark.parametrize("loss", ["ce", "dice", "focal", "lovasz"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_loss_of_a_set_is_the_mean_over_its_labelled_pixels(loss, batch_size, tmp_path):
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, loss=loss
    )
    labelled = [1024, 0, 100, 7, 0]
    data = Masks(masks_with(labelled))
    loader = torch.utils.data.DataLoader(data, batch_size=batch_size)
    (logged,) = trainer(tmp_path).test(task, loader, verbose=False)
    task.eval()
    with torch.inference_mode():
        losses = [task.criterion(task.forward_windows(s["image"][None]), s["mask"][None]) for s in data]
    mean = sum(n * float(one) for n, one in zip(labelled, losses, strict=True) if n) / sum(labelled)
    assert logged["test_loss"] == pytest.approx(mean, rel=1e-5)


def test_the_loss_of_a_set_without_labels_is_nan(tiny_task, tmp_path):
    loader = torch.utils.data.DataLoader(Masks(masks_with([0, 0])), batch_size=2)
    (logged,) = trainer(tmp_path).validate(tiny_task, loader, verbose=False)
    assert math.isnan(logged["val_loss"])


@pytest.mark.parametrize("stage", ["validation", "test"])
@pytest.mark.parametrize(
    ("image_value", "cause"), [(float("nan"), "the images contain values"), (1.0, "the images are finite")]
)
def test_an_error_about_logits_that_are_not_finite_names_the_chips(tiny_task, stage, image_value, cause):
    image = torch.randn(3, 1, 6, 32, 32)
    image[1, 0, 2, 3, 4] = image_value
    batch = {
        "image": image,
        "mask": torch.zeros(3, 32, 32, dtype=torch.long),
        "name": ["one", "two", "three"],
    }
    names = "two"
    if image_value == 1:
        tiny_task.model.decode_head.conv_seg.bias.data[0] = float("inf")
        names = "one, two, three"
    step = getattr(tiny_task.eval(), f"{stage}_step")
    with pytest.raises(DataError, match=f"logits: NaN or infinite in {stage}, batch 4, for {names}; {cause}"):
        step(batch, 4)


def test_a_nan_score_is_never_the_best(tiny_task, tmp_path):
    """Lightning would take the first one for the best."""
    loaders = [
        torch.utils.data.DataLoader(Masks(masks_with(labelled)), batch_size=2)
        for labelled in ([900, 900], [0, 0])
    ]
    best, last = callbacks(tiny_task, tmp_path)
    with pytest.warns(
        UserWarning, match=r"monitor: val_mIoU was nan in validation, where no pixel has a label"
    ):
        trainer(tmp_path, callbacks=[best, last], max_epochs=2).fit(tiny_task, *loaders)
    assert best.best_model_score is None
    kept, newest = (
        torch.load(tmp_path / name, weights_only=True)["state_dict"] for name in ("best.ckpt", "last.ckpt")
    )
    assert all(torch.equal(kept[key], newest[key]) for key in newest)


def test_a_score_after_a_nan_score_is_the_best(tiny_task, tmp_path):
    best, _ = callbacks(tiny_task, tmp_path)
    run = trainer(tmp_path, callbacks=[best])
    run.strategy.connect(tiny_task)
    for score, is_best in ((float("nan"), False), (float("-inf"), False), (0.1, True)):
        assert best.check_monitor_top_k(run, torch.tensor(score)) is is_best

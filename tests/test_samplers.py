"""Geo-samplers: every pixel is drawn, on our datasets and on TorchGeo's."""

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples

from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.errors import ConfigError
from prithvi_tg.readers.formats import find_inputs, resolve_scene
from prithvi_tg.readers.grid import Grid
from prithvi_tg.samplers import ExactCoverGeoSampler, RandomWindowGeoSampler
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget())


def write(path, height, width, pixel=10.0, crs="EPSG:32615"):
    """A scene whose pixels are numbered from 1."""
    values = np.arange(1, height * width + 1, dtype=np.float32).reshape(1, height, width)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=height, width=width, crs=crs,
        transform=rasterio.Affine(pixel, 0, 600000, 0, -pixel, 4200000),
    ) as out:  # fmt: skip
        out.write(values)
    return path


def dataset_of(path):
    (found,) = find_inputs([path])
    return SceneDataset(resolve_scene(found, SPEC), SPEC)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40),
    st.sampled_from([10.0, 0.1, 1 / 3]),
)  # fmt: skip
def test_every_pixel_is_drawn_at_its_position(tmp_path_factory, height, width, size, stride, pixel):
    stride = min(stride, size)
    dataset = dataset_of(write(tmp_path_factory.mktemp("scene") / "scene.tif", height, width, pixel))
    sampler = ExactCoverGeoSampler(dataset, size, stride)
    seen = np.zeros(height * width + 1, int)
    first = []
    for query in sampler:
        sample = dataset[query]
        assert sample["image"].shape == (1, 1, size, size)
        values = sample["image"][sample["valid"]].long().numpy()
        assert len(values) == min(size, height) * min(size, width)
        seen[values] += 1
        first.append(int(values[0]))
    assert (seen[1:] > 0).all()
    assert len(first) == len(sampler)
    assert first == sorted(first)  # reading order


def test_the_sampler_works_with_data_sets_of_torchgeo(tmp_path):
    write(tmp_path / "scene.tif", 70, 50)
    dataset = RasterDataset(tmp_path)
    loader = DataLoader(
        dataset, sampler=ExactCoverGeoSampler(dataset, 32), batch_size=2, collate_fn=stack_samples
    )
    seen = np.concatenate([np.unique(batch["image"].numpy()) for batch in loader])
    assert set(range(1, 70 * 50 + 1)) <= set(seen.astype(int).tolist())


def test_a_window_beyond_the_scene_is_an_error(tmp_path):
    dataset = dataset_of(write(tmp_path / "scene.tif", 20, 20))
    with pytest.raises(IndexError, match="lies outside scene"):
        dataset[slice(0, 100), slice(0, 100)]


def test_strides_that_leave_gaps_are_an_error(tmp_path):
    dataset = dataset_of(write(tmp_path / "scene.tif", 20, 20))
    with pytest.raises(ConfigError, match="stride: 9 must lie between 1 and the window, 8"):
        ExactCoverGeoSampler(dataset, 8, 9)


def random_windows(locality_groups, size=64, length=400, **options):
    grid = Grid(None, rasterio.Affine(1, 0, 0, 0, -1, 4096), 4096, 4096)
    return RandomWindowGeoSampler(
        grid, shapely.box(0, 0, 4096, 4096), size, length, locality_groups=locality_groups, **options
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_locality_groups_reorder_windows_so_that_blocks_are_reused(processes):
    drawn = [place[:2] for place in random_windows(0).windows()]
    walked = [place[:2] for place in random_windows(8, world_size=processes, rank=0).windows()]
    assert walked != drawn
    assert sorted(walked) == sorted(drawn)
    for process in range(processes):
        own = np.array(walked[process::processes])

        def moves(places):
            steps = np.abs(places[8:] - places[:-8]).max(axis=1)  # of one walk, from batch to batch
            return np.median(steps)

        assert moves(own) < 600 < moves(np.array(drawn))
        batches = own[: len(own) // 8 * 8].reshape(-1, 8, 2)
        spread = batches.max(axis=1) - batches.min(axis=1)  # of the ground's 4096 pixels
        assert np.median(spread) > 2048


def test_locality_groups_differ_by_epoch_and_repeat_with_the_seed():
    first, again = random_windows(4), random_windows(4)
    assert list(first) == list(again)
    again.set_epoch(1)
    assert list(first) != list(again)


def test_a_locality_group_keeps_its_area_in_every_epoch_with_another_start():
    sampler = random_windows(8)
    grounds, starts = [], []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        places = np.array([place[:2] for place in sampler.windows()])
        grounds.append([{tuple(block) for block in places[walk::8] // 512} for walk in range(8)])
        starts.append(places[:8])
    shared = np.array([[len(one & other) / len(one | other) for other in grounds[1]] for one in grounds[0]])
    others = shared[~np.eye(8, dtype=bool)]
    assert shared.diagonal().mean() > 5 * others.mean()
    assert np.abs(starts[0] - starts[1]).max() > 512


def test_epochs_may_have_no_windows_or_fewer_than_locality_groups():
    assert list(random_windows(8, length=0)) == []
    assert len(list(random_windows(8, length=3))) == 3

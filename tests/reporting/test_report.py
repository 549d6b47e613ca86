"""The report: its parts, and the page in a browser without network."""

import json
import re
import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.grid import Grid
from prithvi_tg.reporting.runs import differing_settings, distinct_names, read_runs, read_settings
from prithvi_tg.reporting.tiles import tile_map
from prithvi_tg.reporting.titles import data_name

pytestmark = pytest.mark.pictures

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def reported(tmp_path_factory, flood_root):
    """Two runs, the test of one, a map of each, and a report of all."""
    from conftest import TINY_CONFIG

    from prithvi_tg.__main__ import main

    folder = tmp_path_factory.mktemp("report")
    config = folder / "config.yaml"
    config.write_text(
        TINY_CONFIG.format(root=flood_root, runs=folder / "runs").replace(
            "max_epochs: 1", "max_epochs: 2\n  log_every_n_steps: 1"
        )
    )
    best, other = (folder / f"runs/version_{number}/checkpoints/best.ckpt" for number in (0, 1))
    for words in (
        ("fit", "--config", config),
        ("fit", "--config", config, "--seed_everything", "1"),
        ("test", "--config", config, "--ckpt_path", best),
        ("predict", "--ckpt_path", best, flood_root / "scene.tif", "--output", folder / "maps"),
        ("predict", "--ckpt_path", other, flood_root / "scene.tif", "--output", folder / "more"),
        ("report", folder / "runs/version_0", folder / "runs/version_1", "--output", folder / "report.html",
         "--maps", folder / "maps", folder / "more/scene_pred.tif", "--title", "Floods <here>", "--names", "A", "B"),
    ):  # fmt: skip
        assert main([str(word) for word in words]) == 0
    return folder


def test_the_folder_of_a_run_has_curves_chips_pictures_and_events(reported):
    run = reported / "runs/version_0"
    names = {path.name.split(".")[0] for path in run.iterdir()}
    assert {"metrics", "chips", "confusion", "config", "events"} <= names
    assert list((run / "chips").glob("worst_1_*.png"))
    curves = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_loss", "val_loss", "val_mIoU", "val_IoU_Water"} <= set(curves)
    assert any(name.startswith("lr-") for name in curves)


def test_tensorboard_has_the_curves_and_panels_of_validation(reported):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(reported / "runs/version_0"))
    events.Reload()
    assert {"train_loss", "val_loss", "val_mIoU", "val_IoU_Water"} <= set(events.Tags()["scalars"])
    assert "validation/chip_1" in events.Tags()["images"]
    assert len(events.Images("validation/chip_1")) == 2  # epochs


def test_the_page_is_self_contained(reported):
    page = (reported / "report.html").read_text()
    assert "Floods &lt;here&gt;" in page
    assert "<here>" not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith("data:") for address in addresses if address)
    assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"']?https?:", page)
    record = json.loads((reported / "runs/version_0/metrics.json").read_text())
    assert f"{100 * record['overall']['mIoU']:.2f}" in page
    assert record["run"]["checkpoint_sha256"][:16] in page
    assert "maps/scene_pred <small>made with the weights of A</small>" in page
    assert "more/scene_pred <small>made with the weights of B</small>" in page


def test_runs_are_compared_in_settings_and_scores(reported):
    runs = read_runs([reported / f"runs/version_{number}" for number in (0, 1, 2)], ["fit", "again", "test"])
    assert differing_settings([run.settings for run in runs[:2]]) == {"seed_everything": [0, 1]}
    assert differing_settings([runs[0].settings, runs[2].settings]) == {}
    config = reported / "runs/version_2/config.yaml"
    before = config.read_text()
    try:  # a test takes the model from the checkpoint, whatever its configuration says
        config.write_text(before.replace("max_epochs: 2", "max_epochs: 71"))
        assert read_settings(config.parent)["trainer.max_epochs"] == 71
        (test,) = read_runs([config.parent])
        assert differing_settings([runs[0].settings, test.settings]) == {}
    finally:
        config.write_text(before)
    page = (reported / "report.html").read_text()
    first, second = (run.metrics["per_class"]["Water"]["IoU"] for run in runs[:2])
    assert f"<td>{100 * second:.1f}<br><b>{100 * (second - first):+.1f}</b>" in page
    assert "seed_everything" in page
    assert "not scored on the same pixels" not in page


def test_a_difference_of_scores_on_other_chips_is_not_shown(reported, tmp_path, command):
    test = reported / "runs/version_2"
    assert json.loads((test / "metrics.json").read_text())["split"] == "test"
    code, _, err = command(
        "report",
        reported / "runs/version_0",
        test,
        "--output",
        tmp_path / "page.html",
        "--names",
        "fit",
        "tested",
    )
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "tested: not scored on the same pixels as fit, so no difference is shown" in page
    assert 'id="compared"' not in page


def test_the_title_names_data_model_command_and_date(reported, tmp_path, command):
    run = reported / "runs/version_0"
    date = json.loads((run / "metrics.json").read_text())["run"]["date"][:10]
    code, _, err = command("report", run, "--output", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    title = f"Sen1Floods11 · nano with conv_transpose · fit · {date}"
    assert f"<title>{title}</title>" in page
    assert f"<h1>{title}</h1>" in page


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"data.class_path": "prithvi_tg.Sen1Floods11DataModule", "data.init_args.root": "x"},
            "Sen1Floods11",
        ),
        ({"data.class_path": "A", "data.init_args.images": "../own/chips/*.tif"}, "own/chips"),
        ({"data.class_path": "A", "data.init_args.images": ["scenes/*/a.tif", "b.tif"]}, "scenes"),
        ({}, ""),
    ],
)
def test_data_are_named_after_the_data_set_or_the_folder_of_the_images(settings, expected):
    assert data_name(settings) == expected


def test_the_page_notes_a_map_of_another_run_and_a_missing_scene(reported, tmp_path, command):
    lone = tmp_path / "lone_pred.tif"
    shutil.copyfile(reported / "more/scene_pred.tif", lone)
    code, _, err = command(
        "report", reported / "runs/version_0", "--maps", lone, "--output", tmp_path / "page.html"
    )
    assert code == 0, err
    assert "belong to none of these runs" in err
    assert "shown without its scene (no lone_pred.json beside the map names it" in err
    assert ", which belong to none of these runs</small>" in (tmp_path / "page.html").read_text()


def test_intervals_need_five_chips_or_more(reported, tmp_path, command):
    run = tmp_path / "run"
    shutil.copytree(reported / "runs/version_0", run)
    header, *rows = (run / "chips.csv").read_text().splitlines()
    for number, told in ((4, False), (6, True)):
        lines = [rows[k % len(rows)].replace("Synthetic", f"Chip_{k}", 1) for k in range(number)]
        (run / "chips.csv").write_text("\n".join([header, *lines]) + "\n")
        code, _, err = command("report", run, "--overwrite")
        assert code == 0, err
        page = (run / "report.html").read_text()
        assert f"{number} chips" in page
        assert ("95 % interval of IoU" in page) == told
        assert ("Ranges are 95 % bootstrap intervals" in page) == told


def test_numbered_folders_are_named_with_their_parents():
    first, second = Path("runs/small/version_0"), Path("runs/large/version_1")
    assert distinct_names([first, second]) == ["small/version_0", "large/version_1"]
    assert distinct_names([first, first.with_name("version_1")]) == ["version_0", "version_1"]
    assert distinct_names([Path("runs/a"), Path("others/b")]) == ["a", "b"]


def test_tiles_equal_the_map_pixel_by_pixel(reported):
    path = reported / "maps/scene_pred.tif"
    with rasterio.open(path) as source:
        classes = source.read(1)
    tiled = tile_map(path, 1e6)
    assert tiled.factor == 1
    finest = tiled.levels[-1]
    assert (finest["height"], finest["width"]) == classes.shape
    assert np.array_equal(decoded(finest["tiles"]["0_0"], "classes"), classes)
    assert [name for name, _ in tiled.classes] == ["No water", "Water"]


def decoded(tile, key):
    return np.asarray(Image.open(BytesIO(b64decode(tile[key].split(",")[1]))))


def test_the_scene_of_a_map_of_an_area_is_shown_where_the_map_lies(reported, flood_root, tmp_path, command):
    best = reported / "runs/version_0/checkpoints/best.ckpt"
    with rasterio.open(flood_root / "scene.tif") as source:
        grid, (left, bottom, right, top) = Grid.of(source), source.bounds
        values = source.read(
            list(source.descriptions).index("B03") + 1 if "B03" in source.descriptions else 2
        )
        middle = f"{(2 * left + right) / 3},{bottom},{right},{(bottom + 3 * top) / 4}"
    made = ("predict", "--ckpt_path", best, flood_root / "scene.tif", "--output", tmp_path / "maps")
    assert command(*made, "--aoi", middle)[0] == 0
    path = tmp_path / "maps/scene_pred.tif"
    page = tmp_path / "page.html"
    code, _, err = command("report", reported / "runs/version_0", "--maps", path, "--output", page)
    assert code == 0
    assert "shown without its scene" not in err
    (tiled,) = json.loads(re.search(r'id="tiles">(.*?)</script>', page.read_text()).group(1))
    finest = tiled["levels"][-1]
    shown = decoded(finest["tiles"]["0_0"], "scene")[..., 1].astype(float)
    with rasterio.open(path) as found:
        assert (found.height < values.shape[0], found.width < values.shape[1]) == (True, True)
        row, column = (round(at) for at in grid.row_and_column(found.transform.c, found.transform.f))
    part = values[row : row + shown.shape[0], column : column + shown.shape[1]]
    assert np.corrcoef(part.ravel(), shown.ravel())[0, 1] > 0.8


def test_a_map_of_an_earlier_version_is_shown_without_its_scene(reported, flood_root, tmp_path, command):
    best = reported / "runs/version_0/checkpoints/best.ckpt"
    with rasterio.open(flood_root / "scene.tif") as source:
        values, profile = source.read(), source.profile
    with rasterio.open(tmp_path / "plain.tif", "w", **profile) as out:
        out.write(values[:, ::-1])
        out.descriptions = [f"quantity {k}x" for k in range(len(values))]
    bands = map(str, range(1, 7))
    made = ("predict", "--ckpt_path", best, tmp_path / "plain.tif", "--output", tmp_path, "--bands", *bands)
    assert command(*made)[0] == 0
    path = tmp_path / "plain_pred.tif"
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as out:
        out.update_tags(reading="{}")
    code, _, err = command(
        "report", reported / "runs/version_0", "--maps", path, "--output", tmp_path / "a.html"
    )
    assert code == 0
    assert "shown without its scene" in err
    assert "map it again to record its bands" in err
    assert "--bands" not in err


def test_a_large_map_is_tiled_up_to_the_size_limit(tmp_path, reported):
    path = tmp_path / "large_pred.tif"
    values = np.random.default_rng(0).integers(0, 2, (1, 1500, 900), dtype=np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=1500, width=900, count=1, dtype="uint8", nodata=255, tiled=True,
        crs="EPSG:32615", transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as out:  # fmt: skip
        out.write(values)
        out.write_colormap(1, {0: (1, 2, 3, 255), 1: (9, 8, 7, 255)})
    whole = tile_map(path, 1e9)
    assert [(len(level["tiles"]), level["width"]) for level in whole.levels] == [
        (1, 113),
        (2, 225),
        (6, 450),
        (24, 900),
    ]
    small = tile_map(path, whole.size / 3)
    assert small.size <= whole.size / 3
    assert small.factor > 1
    assert len(small.levels) < len(whole.levels)


def test_pixels_of_a_map_without_data_are_in_its_legend(reported, tmp_path, command):
    whole = reported / "maps/scene_pred.tif"
    shutil.copyfile(whole, path := tmp_path / "partly_pred.tif")
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as out:
        values = out.read(1)
        values[:20] = 255
        out.write(values, 1)
    assert (tile_map(whole, 1e6).no_data, tile_map(path, 1e6).no_data) == ("", "#e9edf0")
    page = tmp_path / "page.html"
    for shown, is_told in ((whole, False), (path, True)):
        code, _, err = command(
            "report", reported / "runs/version_0", "--maps", shown, "--output", page, "--overwrite"
        )
        assert code == 0, err
        assert ('<i style="background:#e9edf0"></i>no data</span>' in page.read_text()) == is_told


def test_unreadable_or_incomparable_runs_are_errors(reported, tmp_path, command):
    with pytest.raises(DataError, match=r"contains no metrics\.json; name the folder of a scored run"):
        read_runs([tmp_path])
    with pytest.raises(DataError, match="no such folder"):
        read_runs([tmp_path / "none"])
    unscored = tmp_path / "runs/version_3"
    shutil.copytree(reported / "runs", unscored.parent)
    unscored.mkdir()
    (unscored / "config.yaml").touch()
    with pytest.raises(DataError, match=r"contains runs; name one .*/version_0, .*/version_2, .*/version_3$"):
        read_runs([unscored.parent])
    killed = tmp_path / "killed/checkpoints/last.ckpt"
    killed.parent.mkdir(parents=True)
    killed.touch()
    with pytest.raises(
        DataError, match=r"unfinished run: .* resume it with prithvi-tg fit --ckpt_path .*last\.ckpt$"
    ):
        read_runs([tmp_path / "killed"])
    killed.with_name("best.ckpt").touch()
    with pytest.raises(DataError, match=r"or score .*killed/checkpoints/best\.ckpt with validate or test"):
        read_runs([tmp_path / "killed"])
    with pytest.raises(ConfigError, match="names: 1 given for 2 runs"):
        read_runs([tmp_path, tmp_path], ["one"])
    with pytest.raises(ConfigError, match="give each run its own name"):
        read_runs([tmp_path, tmp_path], ["one", "one"])
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(DataError, match="does not contain the scores of a run"):
        read_runs([tmp_path])
    run = reported / "runs/version_0"
    with pytest.raises(ConfigError, match="is given more than once"):
        read_runs([run, run])
    record = json.loads((run / "metrics.json").read_text())
    record["per_class"] = {"Forest": {}, "Meadow": {}}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"has the classes Forest, .* they cannot be compared"):
        read_runs([run, tmp_path])
    code, _, err = command("report", run, "--output", reported / "report.html")
    assert (code, "exists; add --overwrite" in err) == (2, True)
    code, _, err = command(
        "report", run, "--maps", reported / "report.html", "--output", tmp_path / "new.html"
    )
    assert (code, "not a readable raster" in err) == (1, True)
    code, _, err = command("report", run, "--maps", run, "--output", tmp_path / "new.html")
    assert (code, "contains no maps, NAME_pred.tif" in err) == (1, True)
    assert not (tmp_path / "new.html").exists()


def test_scores_of_an_older_file_follow_the_current_definitions(reported, tmp_path):
    run = reported / "runs/version_0"
    record = json.loads((run / "metrics.json").read_text())
    new = read_runs([run])[0].metrics
    assert new["overall"] == record["overall"]
    assert new["per_class"] == record["per_class"]
    del record["bootstrap_block"]
    error = record["overall"]["ECE"]  # not from the confusion matrix
    record["overall"] = {"mIoU": 0.5, "mDice": 0.9, "mFscore": 0.9, "mRecall": 0.9, "ECE": error}
    for scores in record["per_class"].values():
        scores.update(Dice=0.9, Recall=0.9, Fscore=0.9)
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    old = read_runs([tmp_path])[0].metrics
    assert old["overall"] == new["overall"]
    assert old["per_class"] == new["per_class"]
    record["confusion_matrix"]["counts"] = [[1, 2, 3]]
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"2 classes, but a confusion matrix of shape \(1, 3\)"):
        read_runs([tmp_path])


def test_no_column_of_the_page_or_the_files_repeats_another(reported):
    page = (reported / "report.html").read_text()
    headings = re.findall(r"<th>([^<]*)</th>", page.split('id="classes"')[1].split('id="confusion"')[0])
    assert {"IoU", "Acc", "Fscore", "Precision"} <= set(headings)
    assert not {"Dice", "Recall"} & set(headings)
    record = json.loads((reported / "runs/version_0/metrics.json").read_text())
    for scores in (record["overall"], *record["per_class"].values()):
        assert not [name for name in scores if name in ("Dice", "Recall", "mDice", "mRecall")]


def test_the_page_explains_that_windows_are_resampled_in_blocks(reported, tmp_path, command):
    run = tmp_path / "run"
    shutil.copytree(reported / "runs/version_0", run)
    header, row, *_ = (run / "chips.csv").read_text().splitlines()
    counts = row.split(",", 1)[1]
    lines = [
        f"row_{row:05d}_column_{column:05d},{counts}"
        for row in range(0, 192, 32)
        for column in range(0, 256, 32)
    ]
    (run / "chips.csv").write_text("\n".join([header, *lines]) + "\n")
    record = json.loads((run / "metrics.json").read_text())
    for block, told in ((64, "48 windows in 12 spatial blocks, up to 64 x 64 pixels each"),
                        (0, "48 windows in 4 spatial blocks, up to 128 x 128 pixels each"
                            "<br><small>no intervals: fewer than 5 spatial blocks")):  # fmt: skip
        (run / "metrics.json").write_text(json.dumps({**record, "bootstrap_block": block}))
        code, _, err = command("report", run, "--overwrite")
        assert code == 0, err
        page = (run / "report.html").read_text()
        assert told in page
        has_intervals = block == 64
        assert ("all windows of a block are drawn together" in page) == has_intervals
        assert ("may consist of several blocks of the split" in page) == has_intervals


def test_a_scene_of_another_map_is_an_error(reported, flood_root, command, tmp_path):
    chip = next((flood_root / "v1.1").rglob("*_S2Hand.tif"))
    code, _, err = command(
        "report", reported / "runs/version_0", "--maps", reported / "maps/scene_pred.tif", "--scenes", chip,
        "--output", tmp_path / "report.html",
    )  # fmt: skip
    assert (code, "the map was made from another one" in err) == (1, True)


@pytest.fixture(scope="module")
def page(reported):
    """The report in headless Chromium, without a network; fails on any error of its script."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian's package chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
        opened = context.new_page()
        errors, requests = [], []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto((reported / "report.html").as_uri())
        yield opened
        assert errors == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        browser.close()


@pytest.mark.version_independent
def test_every_picture_of_the_page_is_displayed(page):
    sizes = page.eval_on_selector_all("img[src]", "found => found.map(one => one.naturalWidth)")
    assert len(sizes) >= 5
    assert all(sizes)


def test_the_page_and_its_tables_are_as_wide_as_the_screen(page):
    try:
        for width in (1300, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            narrow = page.eval_on_selector_all(
                "table",
                "found => found.filter(one => one.offsetWidth < one.parentElement.clientWidth - 1).length",
            )
            assert narrow == 0
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.version_independent
def test_the_confusion_matrix_switches_between_shares_and_pixels(page):
    cell = page.locator(".confusion td").first
    share = cell.text_content()
    page.click("#confusion-unit")
    assert cell.text_content() == cell.get_attribute("data-count") != share
    page.click("#confusion-unit")
    assert cell.text_content() == share


@pytest.mark.version_independent
def test_a_picture_of_a_chip_can_be_enlarged_and_closed(page):
    page.click(".chips img >> nth=0")
    assert page.locator("#enlarged").is_visible()
    page.click("#enlarged button")
    assert not page.locator("#enlarged").is_visible()


@pytest.mark.version_independent
def test_the_map_can_be_zoomed_moved_faded_and_reset(page):
    box = page.locator(".map").first
    box.scroll_into_view_if_needed()
    first = box.locator("img.classes").first
    fitted, before = first.bounding_box(), box.bounding_box()
    page.click(".zoom-in")
    zoomed = first.bounding_box()
    assert zoomed["width"] == pytest.approx(1.5 * fitted["width"], abs=2)
    frame = box.bounding_box()
    page.mouse.move(frame["x"] + 200, frame["y"] + 200)
    page.mouse.down()
    page.mouse.move(frame["x"] + 260, frame["y"] + 230)
    page.mouse.up()
    moved = first.bounding_box()
    assert (moved["x"] - zoomed["x"], moved["y"] - zoomed["y"]) == pytest.approx((60, 30), abs=2)
    page.locator(".opacity").fill("20")
    assert first.evaluate("one => getComputedStyle(one).opacity") == "0.2"
    assert box.locator("img.scene").count() == box.locator("img.classes").count()
    page.mouse.wheel(0, -200)
    page.click(".fit")
    after, now = first.bounding_box(), box.bounding_box()  # a click may scroll the page
    assert (after["width"], after["height"]) == (fitted["width"], fitted["height"])
    assert after["y"] - now["y"] == pytest.approx(fitted["y"] - before["y"], abs=1)
    assert page.locator(".legend > span").all_text_contents() == ["No water", "Water"]


@pytest.mark.version_independent
def test_maps_of_one_scene_move_together(page):
    boxes = page.locator(".map")
    assert boxes.count() == 2
    assert page.locator(".controls").count() == 1

    def place(number):
        frame, tile = (
            boxes.nth(number).bounding_box(),
            boxes.nth(number).locator("img.classes").first.bounding_box(),
        )
        return [tile["x"] - frame["x"], tile["y"] - frame["y"], tile["width"]]

    fitted = place(0)
    frame = boxes.nth(1).bounding_box()
    page.mouse.move(frame["x"] + 100, frame["y"] + 120)
    page.mouse.wheel(0, -200)
    page.mouse.down()
    page.mouse.move(frame["x"] + 140, frame["y"] + 130)
    page.mouse.up()
    page.wait_for_timeout(50)
    assert place(0) == pytest.approx(place(1), abs=1)
    assert place(0)[2] > fitted[2]
    page.click(".fit")
    assert place(1) == pytest.approx(fitted, abs=1)


@pytest.mark.version_independent
def test_a_screenshot_of_the_map_has_the_colours_of_its_classes(page, reported):
    from io import BytesIO

    from PIL import Image

    box = page.locator(".map").first
    page.click(".fit")
    page.locator(".opacity").fill("100")
    with rasterio.open(reported / "maps/scene_pred.tif") as source:
        table = source.colormap(1)
        present = [table[value][:3] for value in np.unique(source.read(1)) if value != 255]
    picture = np.asarray(Image.open(BytesIO(box.screenshot())).convert("RGB")).reshape(-1, 3)
    for color in present:
        assert (picture == color).all(axis=1).mean() > 0.001, color
    page.locator(".opacity").fill("0")
    picture = np.asarray(Image.open(BytesIO(box.screenshot())).convert("RGB")).reshape(-1, 3)
    assert all((picture == color).all(axis=1).mean() < 0.001 for color in present)


def test_settings_with_python_objects_are_not_read(tmp_path):
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\nsize: !!python/tuple [1, 2]\n")
    with pytest.warns(UserWarning, match="contains Python objects"):
        assert read_settings(tmp_path) == {}
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\n")
    assert read_settings(tmp_path) == {"model.init_args.lr": 0.1}

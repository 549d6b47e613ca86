"""Areas in the report: figures, intervals and marks, as wide as the screen."""

import json
import re
import shutil

import numpy as np
import pytest

from prithvi_tg.areas.design import Design, Stratum
from prithvi_tg.areas.results import described_allocation, estimate_areas
from prithvi_tg.errors import DataError
from prithvi_tg.reporting.areas import read_areas

pytestmark = pytest.mark.pictures

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAMES = ("Deforestation", "Forest gain", "Stable forest", "Stable <non>-forest")
MATRIX = ((66, 0, 5, 4), (0, 55, 8, 12), (1, 0, 153, 11), (2, 1, 9, 313))
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000])


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    """The worked example of Olofsson et al. 2014 as ``area estimate`` writes it."""
    cells = [(i, j) for i, row in enumerate(MATRIX) for j, count in enumerate(row) for _ in range(count)]
    mapped, reference = np.array(cells).T
    strata = tuple(
        Stratum(name, int(size), size * 900.0, name) for name, size in zip(NAMES, MAPPED, strict=True)
    )
    record = {"allocation": "proportional", "seed": 7, "maps": [{"name": "change.tif", "sha256": "0" * 64}]}
    design = Design(NAMES, (0, 1, 2, 3), MAPPED * 900.0, strata, mapped, mapped, np.full(640, 900.0), record)
    path = tmp_path_factory.mktemp("areas") / "areas.json"
    path.write_text(json.dumps(estimate_areas(design, reference)))
    return path


@pytest.fixture(scope="module")
def page(areas, trained_run):
    """The report of a run with the areas."""
    from prithvi_tg.__main__ import main

    path = areas.with_name("report.html")
    assert main(["report", str(trained_run), "--areas", str(areas), "--output", str(path)]) == 0
    return path


def test_areas_have_intervals_and_marks(page):
    section = re.search(r'<section id="areas">.*?</section>', page.read_text(), flags=re.DOTALL)[0]
    text = " ".join(re.sub(r"<[^>]*>", " ", section).split())
    assert "640 points of change.tif. Whole area 900,000.0 ha. Overall accuracy 94.7 % 92.8 to 96.5 ." in text
    assert "Deforestation * 18,000.0 21,157.8 ± 6,157.4" in text
    assert "Forest gain * 13,500.0 11,686.2 ± 3,755.6" in text
    assert "Stable forest 288,000.0 285,769.9 ± 15,509.4" in text
    assert "92.7 88.8 to 96.7 93.5 90.0 to 96.9" in text
    assert (
        "Forest gain: the interval is unreliable and too short, as too few omission points were found in"
        in text
    )
    assert "Stable forest: the interval" not in text
    assert "proportional allocation, seed 7" in text
    assert "Stable &lt;non&gt;-forest" in section
    assert "mapped area" in text


def test_an_accuracy_without_errors_is_shown_without_interval(areas, command, tmp_path):
    record = json.loads(areas.read_text())
    record["classes"][0]["users_accuracy"] = {
        "value": 1.0, "standard_error": 0.0, "interval": [1.0, 1.0], "degenerate": True,
    }  # fmt: skip
    del record["overall_accuracy"]["degenerate"]  # written by an earlier release
    record["uninterpretable"] = 1
    path = tmp_path / "areas.json"
    path.write_text(json.dumps(record))
    code, _, err = command("report", "--areas", path)
    assert code == 0, err
    text = " ".join(re.sub(r"<[^>]*>", " ", (tmp_path / "report.html").read_text()).split())
    assert "100.0 †" in text
    assert "100.0 to 100.0" not in text
    assert "† no interval: all points behind the figure agree" in text
    assert "1 more could not be interpreted and is left out" in text


def test_areas_come_before_the_details_of_the_run(page):
    text = page.read_text()
    assert text.index('id="overview"') < text.index('id="areas"') < text.index('id="classes"')


def test_areas_need_no_run(areas, command, tmp_path):
    areas = shutil.copy(areas, tmp_path)
    code, _, err = command("report", "--areas", areas)
    assert code == 0, err
    page = (tmp_path / "report.html").read_text()
    assert "<title>Areas with intervals · change.tif</title>" in page
    assert "± 6,157.4" in page
    assert 'id="overview"' not in page
    code, _, err = command("report")
    assert (code, "arguments are required: RUN, or --areas FILE.json alone" in err) == (
        2,
        True,
    )
    code, _, err = command("report", "--areas", areas, "--maps", "a.tif", "--overwrite")
    assert (code, "--maps: needs a run" in err) == (2, True)


def test_a_report_without_areas_has_no_section(trained_run, command, tmp_path):
    assert command("report", trained_run, "--output", tmp_path / "report.html")[0] == 0
    assert 'id="areas"' not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"points": 3}', '{"classes": 1'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"other.json: not a result of area estimate"):
        read_areas([path])


def test_a_missing_file_is_an_error_of_one_line(trained_run, command, tmp_path):
    code, _, err = command(
        "report", trained_run, "--areas", "gone.json", "--output", tmp_path / "report.html"
    )
    assert (code, "gone.json: not a result of area estimate" in err) == (1, True)


@pytest.mark.version_independent
def test_the_section_is_as_wide_as_the_screen_and_keeps_its_matrix(page):
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian's package chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        opened = browser.new_page()
        opened.goto(page.as_uri())
        for width in (1300, 400):
            opened.set_viewport_size({"width": width, "height": 900})
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
        for bar in opened.locator("#areas .bar").all():
            box, mark = bar.bounding_box(), bar.locator("b").bounding_box()
            assert box["x"] <= mark["x"] <= box["x"] + box["width"]
        cell = opened.locator("#areas .confusion td").first
        before = cell.text_content()
        if opened.locator("#confusion-unit").count():  # it switches the matrices of the runs alone
            opened.click("#confusion-unit")
        assert cell.text_content() == before == "1.76"
        browser.close()


@pytest.mark.parametrize(
    ("allocation", "points", "text"),
    [
        (
            "proportional",
            {"land": 150, "water": 90},
            "proportional allocation, the minimum of 90 points in water",
        ),
        ("proportional", {"land": 90, "water": 90}, "the minimum of 90 points in each stratum"),
        ("proportional", {"land": 150, "water": 91}, "proportional allocation"),
        ("equal", {"land": 90, "water": 90}, "equal allocation"),
    ],
)
def test_an_allocation_by_the_minimum_is_not_called_proportional(allocation, points, text):
    record = {"allocation": allocation, "minimum": 90, "points_per_stratum": points}
    assert described_allocation(record) == text

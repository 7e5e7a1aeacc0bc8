"""The page in a real Chromium, without a network: pictures, sorting, widths, colours, print.

Takes `chromium` (or Chrome) and `chromedriver` from PATH or from SIMCLR_ABLATE_TEST_BROWSER and
SIMCLR_ABLATE_TEST_DRIVER; on Debian, `apt-get install chromium chromium-driver`.
"""

import base64
import os
import re
import shutil
from functools import partial

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS
from analysis.claims import CLAIMS
from analysis.page import TITLE, VERDICTS
from tests.programs import require

pytestmark = pytest.mark.slow

selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSER = os.environ.get("SIMCLR_ABLATE_TEST_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = os.environ.get("SIMCLR_ABLATE_TEST_DRIVER") or shutil.which("chromedriver")

QUIET = (
    *("headless=new", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
)
WEIGHTS = 0.2126, 0.7152, 0.0722
"""Of red, green and blue in luminance."""
WIDTHS = {"phone": 390, "laptop": 1280}
SHEET = {"width": round(182 / 25.4 * 96), "height": round(267 / 25.4 * 96)}
"""What is printed of A4, less the margins that the style sets, pixels of 1/96 inch."""


@pytest.fixture(scope="session", autouse=True)
def chromium():
    """Asked for before the page is made, which takes its time."""
    require(
        BROWSER and DRIVER,
        "Chromium and chromedriver, on PATH or named by SIMCLR_ABLATE_TEST_BROWSER and _DRIVER",
    )


@pytest.fixture(scope="module")
def browser(site):
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    # Chromium's sandbox does not start for root.
    for argument in (*QUIET, *(["no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, site):
    """The page, freshly opened at a laptop's width."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    set_width(browser, WIDTHS["laptop"])
    browser.get((site / "index.html").as_uri())
    return browser


def set_width(browser, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_the_console_stays_empty_and_nothing_is_fetched(page):
    assert page.title
    assert page.get_log("browser") == []
    fetched = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_every_artefact_is_shown_and_no_picture_is_missing(page, site):
    for name in ("scorecard", *ARTEFACTS):
        assert page.find_element(By.ID, name).is_displayed()
    widths = page.execute_script(
        "return [...document.images].map(i => i.complete && i.naturalWidth)"
    )
    # Without weights and chosen losses, three artefacts have nothing to show.
    assert len(widths) == len(list(site.glob("*.png"))) >= len(ARTEFACTS) - 3
    assert min(widths) > 1000


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_reaches_out_of_the_window(page, width):
    set_width(page, width)
    inner, whole = page.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert whole <= inner <= width
    # What is wider than the window scrolls in a box of its own, which the keyboard reaches.
    unreachable = page.execute_script(
        "return [...document.querySelectorAll('.table, .picture')]"
        ".filter(box => box.scrollWidth > box.clientWidth && box.tabIndex < 0).length"
    )
    assert unreachable == 0


def test_tables_stand_side_by_side_where_there_is_room_and_else_in_a_column(page):
    def places():
        tables = page.find_elements(By.CSS_SELECTOR, "#report-figure5-shapes ~ .tables .table")
        return [table.rect for table in tables]

    ours, paper, *_ = places()
    assert paper["y"] == ours["y"]
    assert paper["x"] >= ours["x"] + ours["width"]
    set_width(page, WIDTHS["phone"])
    ours, paper, *_ = places()
    assert paper["x"] == ours["x"]
    assert paper["y"] >= ours["y"] + ours["height"]


def column(table, place):
    rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    return [row.find_elements(By.CSS_SELECTOR, "th, td")[place].text for row in rows]


def value(text):
    return float(text.split()[0].replace(",", ""))


@pytest.mark.parametrize("press", ["click", "Enter", "Space"])
def test_a_press_on_a_header_sorts(page, press):
    (_, paper, *_) = page.find_elements(By.CSS_SELECTOR, "#report-figure5-shapes ~ .tables table")
    header = paper.find_elements(By.CSS_SELECTOR, "thead th")[3]
    button = header.find_element(By.TAG_NAME, "button")
    keys = {"Enter": Keys.ENTER, "Space": Keys.SPACE}
    act = button.click if press == "click" else partial(button.send_keys, keys.get(press))
    before, names = column(paper, 3), column(paper, 0)
    assert header.get_attribute("aria-sort") == "none"
    for order, reverse in (("ascending", False), ("descending", True)):
        act()
        assert header.get_attribute("aria-sort") == order
        assert column(paper, 3) == sorted(before, key=value, reverse=reverse)
        by_name = dict(zip(names, before, strict=True))
        assert column(paper, 3) == [by_name[name] for name in column(paper, 0)]
    act()
    assert header.get_attribute("aria-sort") == "none"
    assert column(paper, 0) == names


def test_one_column_at_a_time_is_sorted_and_words_sort_as_words(page):
    (table, *_) = page.find_elements(By.CSS_SELECTOR, "#report-figure5-shapes ~ .tables table")
    headers = table.find_elements(By.CSS_SELECTOR, "thead th")
    for header in (headers[2], headers[0]):
        header.find_element(By.TAG_NAME, "button").click()
    assert [h.get_attribute("aria-sort") for h in headers].count("none") == len(headers) - 1
    assert column(table, 0) == sorted(column(table, 0))


def test_what_is_missing_is_sorted_last_either_way(page):
    page.execute_script(
        "document.querySelector('#report-figure5-shapes ~ .tables tbody tr td').textContent = '–'"
    )
    table = page.find_element(By.CSS_SELECTOR, "#report-figure5-shapes ~ .tables table")
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[1]
    for reverse in (False, True):
        button.click()
        *found, last = column(table, 1)
        assert last == "–"
        assert found == sorted(found, key=value, reverse=reverse)


def luminance(browser, element, what):
    """WCAG's, of an element's computed colour."""
    color = browser.execute_script(
        "return getComputedStyle(arguments[0])[arguments[1]]", element, what
    )
    channels = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * part for weight, part in zip(WEIGHTS, linear, strict=True))


@pytest.mark.parametrize(("scheme", "media"), [("light", ""), ("dark", ""), ("dark", "print")])
def test_text_can_be_read_on_light_dark_and_paper(page, scheme, media):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    body = page.find_element(By.TAG_NAME, "body")
    ground = luminance(page, body, "backgroundColor")
    assert (ground < 0.05) == (scheme == "dark" and media != "print")
    states = [f".verdict.{verdict.replace(' ', '-')}" for verdict in VERDICTS]
    for selector in ("body", "a", ".faint", *states, "td small", "dt"):
        elements = page.find_elements(By.CSS_SELECTOR, selector)[:40]
        assert elements
        for element in elements:
            ink = luminance(page, element, "color")
            contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
            assert contrast >= 4.5, (selector, element.text)
    picture = page.find_element(By.CSS_SELECTOR, ".picture")
    assert luminance(page, picture, "backgroundColor") > 0.9


def pages_printed(browser):
    """How many pages its PDF has."""
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    content = base64.b64decode(pdf["data"])
    assert content.startswith(b"%PDF")
    return len(re.findall(rb"/Type\s*/Page\b", content))


def test_notes_and_tests_are_printed_and_folded_again(page):
    def opened():
        return page.execute_script("return document.querySelectorAll('details[open]').length")

    assert opened() == 0
    page.execute_script(
        "window.opened = []; addEventListener('beforeprint', () => {"
        "opened = [...document.querySelectorAll('details')].map(d => [d.className, d.open]); });"
    )
    pages_printed(page)
    found = page.execute_script("return opened")
    assert {kind for kind, _ in found} == {"notes", "test", "runs"}
    assert all(is_open == (kind != "runs") for kind, is_open in found)
    assert opened() == 0


@pytest.fixture
def on_paper(page):
    """The page as it is printed, in a window as wide as what is printed of a sheet."""
    metrics = {**SHEET, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    return page


def test_paper_says_how_claims_were_tested_and_where_run_ids_are(on_paper, site):
    card = " ".join(on_paper.find_element(By.CSS_SELECTOR, "table.scorecard").text.split())
    for claim in CLAIMS:
        assert claim.test in card
    lists = on_paper.find_elements(By.CSS_SELECTOR, "details.runs")
    assert lists
    assert not any(each.is_displayed() for each in lists)
    told = on_paper.find_elements(By.CSS_SELECTOR, "dd.on-paper")
    assert len(told) == len(lists)
    for line in told:
        count, file = re.fullmatch(r"([\d,]+) runs?, listed in (\S+)", line.text).groups()
        data = pd.read_csv(site / file)
        ids = data.get("run_ids", data.get("run_id")).dropna().str.cat(sep=" ").split()
        assert len(set(ids)) == int(count.replace(",", ""))


def test_pages_are_filled(on_paper):
    """A page goes unfilled only where a picture or a table does not fit below."""
    height = on_paper.execute_script("return document.body.scrollHeight")
    pages = pages_printed(on_paper)
    # Pictures that are taller than a page are made to fit on it.
    assert 0.5 * height / SHEET["height"] < pages < 1.25 * height / SHEET["height"] + 1


def test_screens_have_run_ids_and_no_line_for_paper(page):
    assert not any(each.is_displayed() for each in page.find_elements(By.CSS_SELECTOR, ".on-paper"))
    assert page.find_element(By.CSS_SELECTOR, "details.runs").is_displayed()


def test_names_of_data_sets_are_shown_and_run_nothing(browser, tmp_path, make):
    name = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script> $5_to_$10"
    for temperature in (0.1, 0.5):
        changes = {"data.label": name, "loss.temperature": temperature}
        make.put(tmp_path / "runs", make.experiment(**changes), 50.0)
    assert main([f"store={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]) == 0
    browser.get((tmp_path / "out" / "index.html").as_uri())
    assert browser.get_log("browser") == []
    assert browser.title == TITLE
    (heading,) = browser.find_elements(By.CSS_SELECTOR, "h3[id^=report-table5]")
    assert name in heading.text
    labels = [
        each.get_attribute("aria-label") for each in browser.find_elements(By.CLASS_NAME, "table")
    ]
    assert any(name in (label or "") for label in labels)

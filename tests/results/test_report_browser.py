"""The report in a browser: no errors, no requests, sorting, filters, a phone screen and print."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import made_up_sweep
import pytest
from made_up_sweep import Grid

import results
from results import report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.browser

ATTACK = "<script>alert(1)</script>"
MEGABYTES_AT_MOST = 8
ROWS = 3 * 12 * 9 * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    rows = list(made_up_sweep.rows(Grid()))
    assert len(rows) == ROWS
    rows[0] |= {"status": "failed", "error": f"{ATTACK}</script>\n<img src=x onerror=alert(2)>"}
    rows[1] |= {"status": "diverged", "error": "NaN", "finetuned_test_top1": None}
    return made_up_sweep.write(tmp_path_factory.mktemp("large") / "runs", rows, scores=True)


@pytest.fixture(scope="module")
def path(folder) -> Path:
    return report.write([folder])


@pytest.fixture(scope="module")
def browser() -> Iterator:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def said() -> list[str]:
    """Messages of the console, errors and dialogs that no test has removed."""
    return []


@pytest.fixture
def visit(browser, path, said):
    """Opens the report with options of a browser context; there may be no message or request."""
    asked: list[str] = []
    contexts = []

    def allow(route):
        if route.request.url == path.as_uri():
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    def note(kind):
        return lambda thing: said.append(f"{kind}: {getattr(thing, 'text', thing)}")

    def begin(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note("console"))
        page.on("pageerror", note("error"))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.route("**/*", allow)
        page.goto(path.as_uri())
        return page

    yield begin
    for context in contexts:
        context.close()
    assert said == []
    assert asked == []


def column(page, name: str) -> list[str]:
    """The texts in a column of the table."""
    heads = [text.strip() for text in page.locator("#table thead th").all_inner_texts()]
    at = heads.index(name) + 1
    return page.locator(f"#table tbody td:nth-child({at})").all_inner_texts()


def test_a_large_sweep_is_a_small_file(path):
    assert path.stat().st_size < MEGABYTES_AT_MOST * 1e6


def test_the_cells_can_be_sorted(visit, folder):
    page, frame = visit(), results.load(folder)
    accuracies = 100 * frame["finetuned_test_top1"].dropna()
    name = "fine-tuned, %"
    button = page.get_by_role("button", name=name)
    head = page.locator("#table th", has=button)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    expected = [f"{value:.2f}" for value in accuracies.sort_values().head(25)]
    assert column(page, name) == expected
    button.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, name)[0] == f"{accuracies.max():.2f}"
    # A cell without an accuracy is last in both directions.
    page.get_by_role("combobox", name="status").select_option(label="diverged")
    assert column(page, name) == [""]
    page.get_by_role("button", name="metric", exact=True).click()
    assert page.locator("#table th[aria-sort]").count() == 1
    assert head.get_attribute("aria-sort") is None


def test_missing_accuracies_come_last_in_both_directions(visit):
    page = visit()
    page.get_by_role("combobox", name="metric").select_option(label="random")
    page.get_by_role("combobox", name="data set").select_option(label="svhn")
    for _ in range(2):
        page.get_by_role("button", name="fine-tuned, %").click()
        while page.get_by_role("button", name="Next").is_enabled():
            page.get_by_role("button", name="Next").click()
        shown = column(page, "fine-tuned, %")
        assert shown[-1] == ""
        assert "" not in shown[:-1]


def test_the_cells_can_be_filtered_and_paged(visit):
    page = visit()
    # The page filters a moment after a key press, so wait for the result.
    found = playwright.expect(page.locator("#found"))
    at = playwright.expect(page.locator("#page"))
    found.to_have_text(f"{ROWS} cells")
    at.to_have_text(f"1 to 25 of {ROWS}")
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_role("button", name="Next").click()
    at.to_have_text(f"26 to 50 of {ROWS}")
    page.get_by_role("combobox", name="data set").select_option(label="cifar10")
    page.get_by_role("combobox", name="ratio of parameters").select_option(label="0.3")
    found.to_have_text(f"36 of {ROWS} cells")
    assert set(column(page, "data set")) == {"cifar10"}
    page.get_by_role("searchbox").fill("ENTROPY gaussian")
    found.to_have_text(f"3 of {ROWS} cells")
    assert set(column(page, "metric")) == {"entropy_gaussian"}
    assert not page.locator("#pager").is_visible()
    page.get_by_role("searchbox").fill("nothing like it")
    found.to_have_text(f"0 of {ROWS} cells")
    assert column(page, "metric") == []
    page.get_by_role("button", name="Show all").click()
    found.to_have_text(f"{ROWS} cells")


def test_markup_in_the_data_is_shown_as_text(visit, said):
    page = visit()
    shown = page.locator(".failure pre").all_inner_texts()
    assert f"{ATTACK}</script>\n<img src=x onerror=alert(2)>" in shown
    assert page.locator("img").count() == 0
    # The page's Content Security Policy blocks even an injected script.
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'window.ran = true'}))"
    )
    assert page.evaluate("window.ran") is None
    assert "Content Security Policy" in said.pop()


def test_a_phone_needs_no_horizontal_scrolling(visit):
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    for part in page.locator("details").all():
        part.evaluate("part => { part.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    too_wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(part => !part.closest('.scroll, svg, pre')"
        " && part.getBoundingClientRect().right > 391).map(part => part.outerHTML.slice(0, 80))"
    )
    assert too_wide == []


def test_print_shows_folded_parts_and_no_controls(visit):
    page = visit(viewport={"width": 680, "height": 1000})
    folded = page.locator("details:not([open])")
    before = folded.count()
    assert before > 0
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#filters").is_visible()
    assert folded.count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert folded.count() == before


def test_figures_follow_the_dark_and_light_colour_schemes(visit):
    colours = []
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        colours.append(
            page.evaluate(
                "[document.body, document.querySelector('#figure-accuracy svg [id*=patch_1] path')]"
                ".map((part, at) => getComputedStyle(part)[at ? 'fill' : 'backgroundColor'])"
            )
        )
    light, dark = colours
    assert light == ["rgb(255, 255, 255)"] * 2
    assert len(set(dark)) == 1
    assert set(dark).isdisjoint(light)


def test_metrics_are_brought_forward_by_their_names(visit):
    page = visit()
    names = page.locator("#names button").all_inner_texts()
    mark = f"#figure-accuracy [id$='-metric{names.index('taylor')}-line'] path"
    strokes = f"[...document.querySelectorAll({mark!r})].map(one => getComputedStyle(one).stroke)"
    grey = page.evaluate(strokes)
    button = page.get_by_role("button", name="taylor", exact=True)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    # It is grey in the first panel, and gets the colour that stands before its name.
    own = page.evaluate(
        "getComputedStyle(document.querySelector('#names [aria-pressed=true] i')).backgroundColor"
    )
    assert grey[0] != own == page.evaluate(strokes)[0]
    lines = page.locator("#figure-accuracy [id*='-metric'][id*='-line']")
    assert lines.count() == 3 * 12
    dimmed = page.locator("#figure-accuracy .dimmed[id*='-line']")
    assert dimmed.count() == 3 * 11
    page.get_by_role("button", name="apoz", exact=True).press("Enter")
    assert dimmed.count() == 3 * 10
    page.emulate_media(media="print")
    shown = [one.inner_text() for one in page.locator("#names button").all() if one.is_visible()]
    assert sorted(shown) == ["apoz", "taylor"]
    page.emulate_media(media="screen")
    for name in shown:
        page.get_by_role("button", name=name, exact=True).click()
    assert page.locator(".dimmed, .forward").count() == 0
    assert page.evaluate(strokes) == grey


def test_the_first_screen_says_who_is_ahead_in_every_setting(visit):
    for width, height in ((1300, 900), (400, 900)):
        page = visit(viewport={"width": width, "height": height})
        box = page.locator("#conclusion table").bounding_box()
        assert box["y"] + box["height"] < height
        assert box["x"] + box["width"] <= width
        assert page.locator("#conclusion tbody tr").count() == 3

"""The explorer as a reader meets it: in Chromium, with real clicks and keys, on a screen and on a phone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import browser
import pytest

import pymec
from pymec import layers, registry

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import formulas  # found by the line above

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.found() is None, reason="needs Chromium: apt-get install chromium"),
]

SCREEN, PHONE = (1280, 800), (360, 740)
CONTROLS = (
    "layer",
    "i_n",
    "i_h",
    "i_w",
    "i_c",
    "k_h",
    "k_w",
    "k_c",
    "s_h",
    "s_w",
    "p_h",
    "p_w",
    "d_h",
    "d_w",
    "b",
)
TRANSPORT = ("Drawing of the lowerings", "Reset", "Back", "Play", "Next", "step", "speed")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "offline.html"
    path.write_text(formulas.offline(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(tab, address):
    """The page as it opens on a screen; every test must leave its console empty."""
    tab.look(*SCREEN)
    tab.open(address)
    yield tab
    assert tab.complaints() == []


def text(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def at(page):
    """Steps done, and of how many."""
    done, of = text(page, ".where output").split(" of ")
    return int(done), int(of)


def table(page):
    """Bytes by algorithm, in the order of the table."""
    rows = page.evaluate(
        "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((c) => c.textContent))"
    )
    return {cells[0]: int(cells[2].replace(",", "")) for cells in rows}


def by_pymec(shape):
    """Bytes by algorithm, as the table should have them, of the algorithms whose size is a formula."""
    found = {}
    for row in registry.ALGORITHMS.values():
        if formulas.algorithm(row)[0] and row.unsupported(shape) is None:
            found[row.name] = pymec.workspace_size(
                shape.input_shape, shape.kernel_shape, algorithm=row.name, n_threads=1, **shape.arguments
            )
    return found


# Opening ------------------------------------------------------------------------------------------------


def test_it_opens_with_the_papers_example_and_asks_for_nothing_from_elsewhere(page):
    assert at(page) == (0, 26)
    sizes = page.evaluate("[...document.querySelectorAll('.L .caption')].map((caption) => caption.textContent)")
    assert [size.split(" = ")[1] for size in sizes] == [f"{size} elements" for size in (225, 105, 60, 105)]
    assert table(page)["im2col"] == 225 * 4


@pytest.mark.parametrize(
    "sizes", ["", "#cv1", "#cv4", "#i_h=12&i_w=12&p_h=1&p_w=1", "#i_n=128&i_h=1024&i_w=1024&k_c=2048"]
)
@pytest.mark.parametrize("window", [SCREEN, PHONE], ids=["screen", "phone"])
def test_nothing_is_wider_than_the_window(tab, address, window, sizes):
    tab.look(*window)
    tab.open(address + sizes)
    assert tab.evaluate("document.documentElement.scrollWidth") == window[0]
    outside = (
        "[...document.querySelectorAll('.explorer :not(.unseen)')].filter((one) => one.getClientRects().length && "
        "one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML)"
    )
    assert tab.evaluate(outside) == []


# Steps --------------------------------------------------------------------------------------------------


def test_clicks_step(page):
    page.click("[data-do=forward]")
    page.click("[data-do=forward]")
    assert at(page) == (2, 26)
    page.click("[data-do=back]")
    assert at(page) == (1, 26)
    page.click("[data-do=reset]")
    assert at(page) == (0, 26)


def test_a_click_plays_to_the_end_and_another_one_from_the_beginning(page):
    page.evaluate("document.querySelector('[name=speed]').focus()")
    page.press("ArrowRight", 3)
    assert text(page, ".speed output") == "16 a second"
    page.click("[data-do=play]")
    assert text(page, "[data-do=play]") == "Pause"
    page.wait("document.querySelector('.where output').textContent === '26 of 26'")
    page.wait("document.querySelector('[data-do=play]').textContent === 'Play'")
    page.click("[data-do=play]")
    assert at(page)[0] < 26
    page.click("[data-do=play]")
    assert text(page, "[data-do=play]") == "Play"


def test_keys_step_and_play_in_the_drawing(page):
    page.evaluate("document.querySelector('.stage').focus()")
    page.press("ArrowRight", 3)
    page.press("ArrowLeft")
    assert at(page) == (2, 26)
    page.press(" ")
    assert text(page, "[data-do=play]") == "Pause"
    page.press(" ")
    assert text(page, "[data-do=play]") == "Play"
    page.press("Home")
    assert at(page) == (0, 26)


def test_a_space_on_a_button_is_a_press_of_that_button_alone(page):
    page.evaluate("document.querySelector('[data-do=forward]').focus()")
    page.press(" ", 2)
    assert at(page) == (2, 26)
    assert text(page, "[data-do=play]") == "Play"


def test_arrows_in_a_field_belong_to_the_field(page):
    page.evaluate("document.querySelector('[name=k_c]').focus()")
    page.press("ArrowRight")
    page.press("ArrowUp")
    assert at(page) == (0, 26)
    assert page.evaluate("document.querySelector('[name=k_c]').value") == "2"


def test_the_position_can_be_chosen(page):
    page.evaluate("document.querySelector('[name=step]').focus()")
    page.press("ArrowRight", 4)
    assert at(page) == (4, 26)


def test_what_a_step_does_is_drawn(page):
    page.evaluate("document.querySelector('.stage').focus()")
    page.press("ArrowRight", 7)  # MEC has copied five strips and multiplies the second partition
    drawn = page.evaluate(
        "(() => { const panel = document.querySelectorAll('.panel')[1], fills = (cells) => [...cells].map("
        "(cell) => cell.getAttribute('fill')); const pixels = fills(panel.querySelectorAll('.I rect')); return {"
        "L: fills(panel.querySelectorAll('.L rect')).map((fill) => pixels.indexOf(fill)), outputs: [...panel."
        "querySelectorAll('.O rect')].map((cell) => cell.getAttribute('class')), outline: panel.querySelector("
        "'.L .outline').getAttribute('d') }; })()"
    )
    assert drawn["L"] == [h * 7 + x + b for x in range(5) for h in range(7) for b in range(3)]
    assert drawn["outputs"] == ["made"] * 5 + ["now"] * 5 + ["empty"] * 15
    assert drawn["outline"] == "M3 0h9v5h-9z"


def test_a_screen_reader_hears_each_step_but_not_while_it_plays(page):
    assert page.evaluate("document.querySelector('.said').getAttribute('aria-live')") == "polite"
    page.click("[data-do=forward]")
    said = text(page, ".said")
    assert said.startswith(
        "Step 1 of 26. im2col: Copies the patch of output (0, 0) into row 0 of L. MEC: Copies strip"
    )
    page.click("[data-do=play]")
    page.wait("document.querySelector('.where output').textContent === '2 of 26'")
    assert text(page, ".said") == ""
    page.click("[data-do=play]")
    assert text(page, ".said").startswith("Step ")


# Sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cv1", "cv5", "cv9", "cv12"])
def test_the_table_is_pymecs_sorted_by_bytes(page, name):
    page.evaluate("document.querySelector('[name=layer]').focus()")
    page.press("ArrowDown", 1 + int(name[2:]))
    shape = layers.get(name).shape()
    shown = table(page)
    assert shown.pop("mec_banded, b = 2") == 4 * shape.band_size(2)
    assert shown == by_pymec(shape)
    assert list(shown.values()) == sorted(shown.values())
    assert "a smaller image" in text(page, ".shown") or max(shape.i_h, shape.i_w) <= 12


def test_typed_sizes_are_taken_at_once(page):
    for name, size in {"i_h": 9, "i_w": 8, "k_w": 2, "s_h": 2, "p_w": 1, "d_w": 2, "b": 3}.items():
        page.fill(f"[name={name}]", str(size))
    shape = pymec.ConvShape(1, 9, 8, 1, 3, 2, 1, s_h=2, p_l=1, p_r=1, d_w=2)
    shown = table(page)
    assert shown.pop("mec_banded, b = 3") == 4 * shape.band_size(3)
    assert shown == by_pymec(shape)
    assert page.evaluate("document.querySelector('[name=layer]').value") == "own"
    assert "of this layer, 9 × 8" in text(page, ".shown")


@pytest.mark.parametrize(
    ("name", "typed", "reason"),
    [
        ("k_h", "9", "The kernel is 9 pixels high, dilation included, and the padded image 7."),
        ("s_w", "0", "s_w must be a whole number from 1 to 16."),
        ("i_c", "99999", "i_c must be a whole number from 1 to 2048."),
        ("i_n", "1.5", "i_n must be a whole number from 1 to 128."),
        ("p_h", "", "p_h must be a whole number from 0 to 31."),
    ],
)
def test_wrong_sizes_are_named_and_change_nothing(page, name, typed, reason):
    before = table(page)
    page.fill(f"[name={name}]", typed or "x")
    if not typed:
        page.evaluate(f"(() => {{ const field = document.querySelector('[name={name}]'); field.value = ''; "
                      "field.dispatchEvent(new Event('input', { bubbles: true })); })()")  # fmt: skip
    assert text(page, ".wrong") == reason
    assert table(page) == before
    page.fill(f"[name={name}]", "1")
    assert text(page, ".wrong") == ""


def test_the_address_has_the_sizes(tab, address):
    tab.look(*SCREEN)
    tab.open(f"{address}#cv5&b=4")
    assert tab.evaluate("document.querySelector('[name=layer]').value") == "cv5"
    assert "mec_banded, b = 4" in table(tab)
    tab.fill("[name=i_n]", "8")
    assert tab.evaluate("location.hash.slice(1).split('&').sort().join(' ')") == (
        "b=4 i_c=96 i_h=24 i_n=8 i_w=24 k_c=256 k_h=5 k_w=5"
    )
    tab.open(f"{address}#i_h=-3&k_h=x&nonsense&__proto__=1&i_w=9")
    assert table(tab)["im2col"] == 4 * 5 * 7 * 9
    assert tab.complaints() == []


def test_a_kernel_too_large_to_draw_has_its_bytes(tab, address):
    tab.look(*SCREEN)
    tab.open(f"{address}#i_h=64&i_w=64&k_h=31&k_w=31")
    assert "too large to draw" in text(tab, ".shown")
    assert table(tab)["im2col"] == 4 * 34 * 34 * 31 * 31
    assert tab.evaluate("document.querySelector('.transport').inert")
    assert tab.complaints() == []


# Everyone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_tab_key_reaches_every_control_and_shows_where_it_is(tab, address, dark):
    tab.look(*SCREEN, dark=dark)
    tab.open(address)
    reached = []
    for _ in (*CONTROLS, *TRANSPORT):
        tab.press("Tab")
        name, outline = tab.evaluate(
            "(() => { const one = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(one); "
            "return [one.name || one.ariaLabel || one.textContent, `${outlineStyle} ${outlineWidth}`]; })()"
        )
        assert outline == "solid 3px", name
        reached.append(name)
    assert tuple(reached) == (*CONTROLS, *TRANSPORT)


def test_every_control_has_a_name(page):
    names = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "slider", "spinbutton", "combobox", "textbox", "image"}
    found = [node for node in names if node.get("role", {}).get("value") in controls]
    assert len(found) > len(CONTROLS) + len(TRANSPORT)
    assert [node for node in found if not node.get("name", {}).get("value")] == []


def contrast(one, other):
    """The ratio of two colours' luminances, by the Web Content Accessibility Guidelines."""

    def luminance(colour):
        parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_can_be_told_from_the_ground_in_both_schemes(tab, address, dark):
    tab.look(*SCREEN, dark=dark)
    tab.open(f"{address}#k_h=9")  # too high: the reason must be legible, too
    assert text(tab, ".wrong").startswith("The kernel is 9 pixels high")
    ground, words, bars = tab.evaluate(
        "(() => { const of = (selector, name) => [...document.querySelectorAll(selector)].map((one) => "
        "getComputedStyle(one)[name]); return [of('body', 'backgroundColor')[0], of('.explorer :is(p, th, td, "
        ".caption, legend, label)', 'color'), of('td.bar span', 'backgroundColor')]; })()"
    )
    ground = "rgb(255, 255, 255)" if ground == "rgba(0, 0, 0, 0)" else ground
    assert (ground == "rgb(255, 255, 255)") is not dark
    assert min(contrast(colour, ground) for colour in words) >= 4.5
    assert min(contrast(colour, ground) for colour in bars) >= 3


def test_the_sites_switch_makes_it_dark(page):
    mec = "getComputedStyle(document.querySelector('tr.paper .bar span')).backgroundColor"
    page.evaluate("document.body.classList.remove('explorer-offline')")
    light = page.evaluate(mec)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert light == "rgb(0, 114, 178)"
    assert page.evaluate(mec) == "rgb(86, 180, 233)"


def test_it_plays_slowly_where_less_motion_is_wanted_and_nothing_moves_between_steps(tab, address):
    for still, speed in ((True, "0.5 a second"), (False, "2 a second")):
        tab.look(*SCREEN, still=still)
        tab.open(address)
        assert text(tab, ".speed output") == speed
        assert text(tab, "[data-do=play]") == "Play"  # nothing plays by itself
        moving = "[...document.querySelectorAll('.explorer *')].filter((one) => one.getAnimations().length).length"
        tab.click("[data-do=forward]")
        assert tab.evaluate(moving) == 0

"""The page of a comparison: its text, and how it behaves in headless Chromium."""

import json
import os
import sys

import pytest
from PIL import Image
from support.browsing import load
from support.run_folders import settings, write_queried_run, write_run

from fastreid_fancl.compare.command import command_line
from fastreid_fancl.report.album import album
from fastreid_fancl.report.curves import PLOTS, lines
from fastreid_fancl.report.page import page, signed, write_page
from fastreid_fancl.report.page import settings as settings_table
from fastreid_fancl.report.systems import Missing, gather
from fastreid_fancl.runs.read import read_run

# A system, a reason and a caption that want to be more than text.
HOSTILE = "<img src=x onerror=window.hacked=1>"
SCRIPT = "</script><script>window.hacked = 1</script>"
LONG = "build_a_backbone_with_a_very_long_name_that_does_not_fit_on_a_phone_by_far"
PRECISIONS = {
    ("cluster_contrast", 0): [0.5, 0.3, 1.0, 0.2, 0.4, 0.9],
    ("fancl", 0): [0.7, 0.5, 1.0, 0.6, 0.4, 1.0],
    ("fancl", 1): [0.6, 0.5, 1.0, 0.5, 0.4, 0.9],
    (HOSTILE, 0): [0.1, 0.2, 0.3, 0.2, 0.1, 0.3],
    ("resnet18", 0): [1.0, 0.9, 1.0, 0.8, 1.0, 1.0],
}


def write_pictures(run, *entries):
    folder = run / "pictures"
    folder.mkdir()
    Image.new("RGB", (40, 20), (0, 114, 178)).save(folder / "one.png")
    (folder / "index.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for (system, seed), precisions in PRECISIONS.items():
        config = settings(seed, epochs=1)
        config["MODEL"] = {"NAME": LONG if system == "fancl" else "short"}
        run = write_queried_run(root / system, precisions, seed, clustered=system != "resnet18", config=config)
        start = {"iteration": 0, "commit": "c0ffee", "machine": SCRIPT, "processes": 1, "threads": 2}
        (run / "run.json").write_text(json.dumps([{**start, "versions": {"torch": "2.11.0"}}]))
    picture = {"kind": "retrieval", "file": "one.png", "caption": SCRIPT, "alt": "a blue field"}
    write_pictures(root / "fancl/seed_0", picture)
    missing = [Missing("spcl", 0, f"failed: {SCRIPT}"), Missing("cluster_contrast", 1, "interrupted after epoch 3")]
    return gather((read_run(root / system / f"seed_{seed}") for system, seed in PRECISIONS), missing)


@pytest.fixture(scope="module")
def written(systems, tmp_path_factory):
    pytest.importorskip("plotly", reason="plotly is not installed")
    return write_page(systems, tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser, written):
    """The page in the browser; whatever a test does there, the console stays empty and no request leaves the page."""
    browser.get_log("performance"), browser.get_log("browser")
    load(browser, written)
    yield browser
    assert browser.get_log("browser") == []
    assert {url for url in requests(browser) if not url.startswith(("data:", "blob:"))} == {written.as_uri()}
    assert browser.execute_script("return window.hacked") is None


def requests(browser):
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def find(browser, selector):
    return browser.find_element("css selector", selector)


def texts(browser, selector):
    return [each.text for each in browser.find_elements("css selector", selector)]


def order(browser):
    """The methods of the retrieval table by group."""
    bodies = browser.find_elements("css selector", "#retrieval tbody")
    return [[row.text for row in body.find_elements("css selector", "tr[data-system] th")] for body in bodies]


def heading(browser, title):
    buttons = browser.find_elements("css selector", "#retrieval th button")
    return next(button for button in buttons if button.text == title)


def direction(button):
    return button.find_element("xpath", "..").get_attribute("aria-sort")


FAILED = ["spcl (0 of 1 seeds)"]
CLUSTER_CONTRAST = "cluster_contrast (1 of 2 seeds)"


def test_a_click_on_a_heading_sorts_within_the_groups_and_another_turns_the_order(opened):
    by_mean = [["resnet18"], [HOSTILE, CLUSTER_CONTRAST, "fancl"], FAILED]
    assert order(opened) == by_mean, "as Table III is"
    button = heading(opened, "mAP")
    assert direction(button) == "ascending"
    button.click()
    assert direction(button) == "descending"
    assert order(opened) == [["resnet18"], ["fancl", CLUSTER_CONTRAST, HOSTILE], FAILED]
    heading(opened, "Method").click()
    assert direction(button) == "none"
    assert order(opened)[1] == [HOSTILE, CLUSTER_CONTRAST, "fancl"]
    assert find(opened, "#said").text == "Sorted by Method, ascending."


def test_the_keyboard_reaches_a_heading_and_sorts(opened):
    from selenium.webdriver.common.keys import Keys

    find(opened, "#baseline").send_keys(Keys.TAB)
    assert opened.switch_to.active_element.get_attribute("role") == "region", "the arrows scroll it"
    for title in ("Method", "mAP", "Rank-1", "Rank-5", "Rank-10", "Δ mAP"):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        assert opened.switch_to.active_element.text == title
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert order(opened)[1] == ["fancl", CLUSTER_CONTRAST, HOSTILE]


def test_the_skip_link_is_the_first_stop_and_leads_to_the_results(opened):
    from selenium.webdriver.common.keys import Keys

    find(opened, "body").send_keys(Keys.TAB)
    link = opened.switch_to.active_element
    assert link.text == "Skip to the results"
    link.send_keys(Keys.ENTER)
    assert opened.switch_to.active_element.text == "Results"


def test_another_baseline_changes_the_differences_and_their_plot(opened):
    def differences(system):
        row = f'#retrieval tr[data-system="{system}"]'
        return texts(opened, f"{row} .difference") + texts(opened, f"{row} .shared")

    assert differences("cluster_contrast") == ["baseline", "baseline", "–"]
    # Seed 0 is shared: 20 + 20 + 0 + 40 + 0 + 10 points over six queries, and one query of six becomes right.
    mean, first, shared = differences("fancl")
    assert mean.startswith("▲ +15.0 [+") and first.startswith("+16.7 [0.0, ") and shared == "0"
    find(opened, '#baseline option[value="fancl"]').click()
    assert differences("fancl") == ["baseline", "baseline", "–"]
    assert differences("cluster_contrast")[0].startswith("▼ −15.0 [−")
    assert find(opened, "#forest-caption").text == "Difference in mAP from fancl, with its 95% interval"
    means = opened.execute_script("return document.querySelector('#forest').data.map((each) => [each.name, each.x[0]])")
    assert dict(means)["cluster_contrast"] == pytest.approx(-15)
    assert differences("spcl") == ["–", "–", "–"]


def drawn(browser, plot=0):
    """The visible lines, by name, with their values."""
    data = f"document.querySelector('#plot-{plot}').data"
    script = f"return {data}.filter((each) => each.visible !== false).map((each) => [each.name, each.y])"
    return dict(browser.execute_script(script))


def shown(browser, plot=0):
    """The runs among the lines."""
    return [name for name in drawn(browser, plot) if "mean" not in name]


def test_the_legend_toggles_a_run_in_all_plots(opened):
    assert len(shown(opened)) == len(PRECISIONS) and len(shown(opened, 1)) == 4, "one is supervised"
    before = len(opened.find_elements("css selector", "#plot-0 .scatterlayer .trace"))
    find(opened, '#legend [data-system="fancl"][data-seed="1"]').click()
    for plot in range(3):
        assert "fancl, seed 0" in shown(opened, plot) and "fancl, seed 1" not in shown(opened, plot)
    assert len(opened.find_elements("css selector", "#plot-0 .scatterlayer .trace")) == before - 2, "and a mean"


def test_an_unfinished_run_has_a_curve_and_no_more(browser, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed")
    runs = [write_run(tmp_path / f"fancl/seed_{seed}", seed) for seed in (0, 1)]
    runs += [write_run(tmp_path / f"{name}/seed_2", 2, finished=False) for name in ("fancl", "spcl")]
    failed = [Missing("spcl", 2, "failed")]
    load(browser, write_page(gather(map(read_run, runs), failed), tmp_path))
    lines = drawn(browser)
    assert lines["fancl, seed 2, unfinished"] == lines["spcl, seed 2, unfinished"] == [30, None]
    assert lines["fancl, mean of 2 seeds"] == [30, 40]
    assert texts(browser, "#legend .seeds label")[-1].split("\n")[-1] == "seed 2, unfinished"
    assert texts(browser, "#baseline option") == ["fancl"]
    assert texts(browser, ".warning li")[-1] == "spcl, seed 2: failed"


def test_several_seeds_of_a_system_have_a_mean_line_of_those_shown(opened):
    lines = drawn(opened)
    assert [name for name in lines if "mean" in name] == ["fancl, mean of 2 seeds"]
    one, other = lines["fancl, seed 0"], lines["fancl, seed 1"]
    assert lines["fancl, mean of 2 seeds"] == pytest.approx([(one[0] + other[0]) / 2])
    find(opened, '#legend [data-system="fancl"][data-seed="1"]').click()
    assert not any("mean" in name for name in drawn(opened))


def test_a_box_toggles_all_runs_of_a_system_or_of_the_page_and_shows_that_some_are_hidden(opened):
    every, whole = find(opened, "#every"), find(opened, '[data-all="fancl"]')
    seed = find(opened, '#legend [data-system="fancl"][data-seed="1"]')
    seed.click()
    assert [box.get_property("indeterminate") for box in (every, whole)] == [True, True]
    whole.click()
    assert seed.is_selected() and every.is_selected() and len(shown(opened)) == len(PRECISIONS)
    whole.click()
    assert not seed.is_selected() and [name for name in shown(opened) if "fancl" in name] == []
    assert every.get_property("indeterminate") and not whole.get_property("indeterminate")
    every.click()
    every.click()
    assert shown(opened) == []
    whole.click()
    assert shown(opened) == ["fancl, seed 0", "fancl, seed 1"]


def look(browser):
    """Colours of the page, of a plot's text and of its second line."""
    return browser.execute_script(
        "const plot = document.querySelector('#plot-0');"
        "return [getComputedStyle(document.body).backgroundColor, plot.layout.font.color, plot.data[0].line.color]"
    )


def test_the_theme_follows_the_system_and_then_the_button(opened):
    from selenium.webdriver.support.wait import WebDriverWait

    def prefer(theme, pressed):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        WebDriverWait(opened, 10).until(lambda _: button.get_attribute("aria-pressed") == pressed)
        return look(opened)

    button = find(opened, "#theme")
    light, dark = prefer("light", pressed="false"), prefer("dark", pressed="true")
    assert all(one != other for one, other in zip(light, dark, strict=True))
    button.click()
    assert look(opened) == light and button.get_attribute("aria-pressed") == "false"
    button.click()
    assert look(opened) == dark
    assert prefer("light", pressed="true") == dark, "chosen by hand"


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_only_boxes_scroll_sideways(opened, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        opened.refresh()
        opened.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        widths = opened.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert widths == [width, width]
        assert opened.execute_script("return document.querySelector('#retrieval').offsetWidth") > width
        group = find(opened, "#retrieval .group span")
        before = group.rect["x"]
        opened.execute_script("document.querySelector('#retrieval').parentNode.scrollLeft = 200")
        assert group.rect["x"] == pytest.approx(before, abs=1), "its name stays in sight"
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_picture_is_in_the_page_and_opens_at_full_size(opened):
    from selenium.webdriver.common.keys import Keys

    picture = find(opened, "#pictures ~ .album img")
    assert picture.get_attribute("alt") == "a blue field"
    assert picture.get_property("naturalWidth") == 40
    assert texts(opened, ".album figcaption") == [f"fancl, seed 0. {SCRIPT}"]
    find(opened, ".enlarge").click()
    dialog = find(opened, "dialog")
    assert dialog.is_displayed() and dialog.find_element("css selector", "img").get_property("naturalWidth") == 40
    assert texts(opened, "dialog p") == [f"fancl, seed 0. {SCRIPT}"]
    dialog.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()


def test_the_bar_stays_and_hides_no_heading_that_it_leads_to(opened):
    find(opened, 'nav [href="#runs"]').click()
    find(opened, 'nav [href="#curves"]').click()
    bar, heading = (find(opened, selector) for selector in (".bar", "#curves"))
    top, bottom, at = opened.execute_script(
        "const [bar, heading] = [...arguments].map((each) => each.getBoundingClientRect());"
        "return [bar.top, bar.bottom, heading.top]",
        bar,
        heading,
    )
    assert top == 0 and bottom <= at < bottom + 100


def test_a_plot_is_saved_opaque_under_its_title(opened):
    found = opened.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')]"
        ".map((each) => [each._context.toImageButtonOptions, each.layout.paper_bgcolor])"
    )
    names = ["Difference_in_mAP_from_cluster_contrast_with_its_95_interval", "mAP", "Clusters", "Adjusted_Rand_index"]
    assert [options for options, _ in found] == [{"filename": name, "scale": 2} for name in names]
    assert {colour for _, colour in found} == {"rgb(255, 255, 255)"}


def test_the_picture_of_a_study_comes_right_after_the_results(browser, systems, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed")
    write_pictures(tmp_path, {"kind": "study", "file": "one.png", "caption": "Variants", "alt": "a blue field"})
    load(browser, write_page(systems, tmp_path))
    assert texts(browser, "main h2") == ["Results", "Study", "Curves", "Pictures", "Settings", "Runs"]
    assert texts(browser, "#study ~ figure figcaption") == ["Variants"]
    assert "Variants" not in texts(browser, ".album figcaption")


def test_every_table_plot_and_picture_says_what_it_is(opened):
    unnamed = opened.execute_script(
        """
        const named = (each) => each.caption?.textContent || each.alt || each.ariaLabel ||
          document.getElementById(each.getAttribute("aria-labelledby"))?.textContent;
        const wanted = "table, main img[src^='data:image'], [role=region], [role=group], section";
        return [...document.querySelectorAll(wanted)].filter((each) => !named(each)).map((each) => each.outerHTML);
        """
    )
    assert unnamed == []
    assert opened.execute_script("return document.querySelectorAll('th:not([scope])').length") == 0


def test_the_page_allows_no_request_and_no_other_script(browser, written):
    load(browser, written)
    refused = browser.execute_async_script(
        """
        const [done, names] = [arguments[0], []];
        document.addEventListener("securitypolicyviolation", (event) => {
          names.push(event.effectiveDirective);
          if (names.length === 3) done(names);
        });
        fetch("https://example.org/").catch(() => null);
        document.body.append(Object.assign(new Image(), { src: "https://example.org/a.png" }));
        document.body.append(Object.assign(document.createElement("script"), { textContent: "window.hacked = 1" }));
        """
    )
    assert sorted(refused) == ["connect-src", "img-src", "script-src-elem"]
    assert browser.execute_script("return window.hacked") is None


def test_a_comparison_in_which_all_failed_opens(browser, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed")
    path = write_page(gather([], [Missing("fancl", 0, "no data")]), tmp_path)
    browser.get_log("browser")
    load(browser, path)
    assert texts(browser, ".lead") == ["No run has finished."]
    assert texts(browser, ".warning li") == ["fancl, seed 0: no data"]
    assert browser.get_log("browser") == []


def test_what_failed_is_listed_with_its_reason(opened):
    listed = ["cluster_contrast, seed 1: interrupted after epoch 3", f"spcl, seed 0: failed: {SCRIPT}"]
    assert texts(opened, ".warning li") == listed


def test_versions_machine_and_commit_of_the_runs_are_named(opened):
    facts = dict(zip(texts(opened, ".facts dt"), texts(opened, ".facts dd"), strict=True))
    assert (facts["Seeds"], facts["Commit"], facts["Machine"]) == ("0, 1", "c0ffee", SCRIPT)
    assert facts["Versions"] == "torch 2.11.0"
    row = "#runs ~ .scroll tbody tr:first-of-type"
    assert texts(opened, f"{row} td")[1:5] == ["c0ffee", SCRIPT, "1 × 2", "–"]


def test_settings_say_who_differs_from_the_most(systems):
    others = ["cluster_contrast", HOSTILE, "resnet18"]
    assert settings_table(systems) == {"MODEL.NAME": {"short": others, LONG: ["fancl"]}}


def test_curves_have_the_values_of_each_epoch_and_none_for_supervised_clusters(systems):
    means, clusters, _ = (lines(plot, systems) for plot in PLOTS)
    assert [line.system for line in means] == [system for system, _ in PRECISIONS]
    assert means[0].values == {1: pytest.approx(55)}
    assert [line.values for line in clusters] == [{1: 7}] * 4


def test_differences_are_signed_with_a_true_minus_and_no_negative_zero():
    assert [signed(value) for value in (1.25, -3.0, -0.04, 0.04)] == ["+1.2", "−3.0", "0.0", "0.0"]


@pytest.mark.parametrize(
    "index", ['{"kind"', '[{"kind": "fana"}]', '[{"kind": "fana", "file": "run.json", "caption": "", "alt": ""}]']
)
def test_pictures_that_cannot_be_read_are_left_out_with_a_warning(tmp_path, caplog, index):
    run = write_queried_run(tmp_path / "fancl", [0.5])
    write_pictures(run)
    (run / "pictures/index.json").write_text(index)
    assert album([read_run(run)], run.parent) == {}
    assert "The page is without the pictures of" in caplog.text


def test_a_baseline_is_one_of_the_systems_and_has_results(systems, tmp_path, caplog):
    pytest.importorskip("plotly", reason="plotly is not installed")
    with pytest.raises(ValueError, match="--baseline to be one of cluster_contrast, fancl, .*, got fncl"):
        write_page(systems, tmp_path, "fncl")
    write_page(systems, tmp_path, "spcl")
    assert "The baseline spcl has no finished run" in caplog.text
    assert '<option value="cluster_contrast" selected>' in (tmp_path / "report.html").read_text()
    assert '<option value="fancl" selected>' in page(systems, "fancl", tmp_path)


def test_without_plotly_the_tables_are_written_and_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    run = write_queried_run(tmp_path / "fancl", [0.5, 0.7])
    with pytest.raises(SystemExit, match="plotly, which is not installed: pip install .fastreid_fancl.report"):
        command_line([], ["--runs", os.fspath(run), "--output", os.fspath(tmp_path / "out")])
    assert (tmp_path / "out/comparison.md").exists() and not (tmp_path / "out/report.html").exists()


def test_the_command_writes_the_page_beside_its_tables(tmp_path, capsys):
    pytest.importorskip("plotly", reason="plotly is not installed")
    run = write_queried_run(tmp_path / "fancl", [0.5, 0.7])
    assert command_line([], ["--runs", os.fspath(run), "--output", os.fspath(tmp_path / "out")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")

"""The review page in headless Chromium: a person with one hand on the keyboard, and names that are more than text."""

import json
import re
import time
from datetime import datetime

import pytest
from PIL import Image
from support.browsing import load

from fastreid_fancl import progress as progress_of
from fastreid_fancl.individuals.crops import crop_of
from fastreid_fancl.individuals.decisions import add_decisions
from fastreid_fancl.individuals.links import active
from fastreid_fancl.individuals.opening import new_project
from fastreid_fancl.individuals.review import pictures
from fastreid_fancl.individuals.review.page import page, write_page
from fastreid_fancl.individuals.rows import Decision, Individual, Photograph
from fastreid_fancl.individuals.storage import read_decisions, table_text

SCRIPT = "</script><script>window.hacked = 1</script>"
HOSTILE = f"{SCRIPT}<img src=x onerror=window.hacked=1>\"'\u202egpj.{'long' * 60}.jpg"
COLOURS = ("#b33", "#3a3", "#33b")
# Three animals of four photographs; the last photograph of CAT-001 shows animal 1, and three more are in no group.
TRUTH = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 0, 1, 3]
GROUPS = {"CAT-001": [3, 0, 1, 2], "CAT-002": [4, 5, 6], "CAT-003": [7, 8, 9]}
OPEN = [10, 11, 12]
PAIRS = [(0, 3), (0, 1), (4, 7), (5, 6)]


def key_of(number):
    return f"{number:016x}"


def queue(path=lambda number: f"Ridge/IMG_{number:04d}.JPG", station="Ridge 1"):
    animal = {number: name for name, numbers in GROUPS.items() for number in numbers}
    photographs = [
        {
            "key": key_of(number), "path": path(number), "station": station, "date_time": "2024-06-03T00:30:00",
            "side": "left" if number % 2 else "right", "sequence": f"s{number}", "individual": animal.get(number, ""),
            "status": "proposed" if number in animal else "unsure", "score": 0.71, "certainty": 0.9,
        }
        for number in range(len(TRUTH))
    ]  # fmt: skip
    individuals = [
        {"id": name, "name": "", "status": "proposed", "photographs": numbers, "outlier": [0.5] * len(numbers)}
        for name, numbers in GROUPS.items()
    ]
    pairs = [{"a": a, "b": b, "score": 0.5, "settles": 2.0} for a, b in PAIRS]
    pairs[0]["points"] = [[0.2, 0.5, 0.6, 0.5], [0.5, 0.5, 0.5, 0.5]]
    first = [(name, numbers[-1]) for name, numbers in GROUPS.items()]
    candidates = [{"individual": name, "photograph": number, "score": 0.4} for name, number in first]
    opened = [{"photograph": number, "candidates": candidates} for number in OPEN]
    return {"project": "cats", "photographs": photographs, "individuals": individuals, "pairs": pairs, "open": opened}


def image_of(key):
    return Image.new("RGB", (60, 40), COLOURS[TRUTH[int(key, 16)] % 3])


@pytest.fixture
def project(tmp_path):
    write_page(tmp_path, queue(), image_of)
    return tmp_path


@pytest.fixture
def opened(browser, project):
    """The page of a project without decisions; the console stays empty and no request leaves the project's folder."""
    yield from watched(browser, project)


def watched(browser, folder):
    browser.get_log("performance"), browser.get_log("browser")
    show(browser, folder)
    yield browser
    assert browser.get_log("browser") == []
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", "blob:", folder.as_uri()))} == set()
    assert browser.execute_script("return window.hacked") is None


def show(browser, folder, width=1280, height=900):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    downloads = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    load(browser, folder / "review.html")


def press(browser, keys):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(keys).perform()


def hold(browser, key, code="", times=4):
    """Press a key so long that it repeats."""
    event = {"key": key, "code": code, "windowsVirtualKeyCode": 13 * (key == "Enter")}
    text = "\r" if key == "Enter" else key
    for number in range(times):
        pressed = {"type": "keyDown", "text": text, "autoRepeat": number > 0, **event}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", pressed)
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **event})


def find(browser, selector):
    return browser.find_element("css selector", selector)


def texts(browser, selector):
    return [each.text for each in browser.find_elements("css selector", selector)]


def progress(browser):
    return find(browser, "#progress").text


def cards(browser):
    keys = browser.find_elements("css selector", "#grid .toggle")
    return [int(each.get_attribute("data-key"), 16) for each in keys]


def downloaded(browser, folder):
    """The rows of the file that T downloads, read and checked as a project reads them."""
    return read_decisions(download(browser, folder))


def download(browser, folder):
    """The file that T downloads, named by its time in whole seconds."""
    before = set(folder.glob("downloads/decisions-*.csv"))
    until(lambda: (folder / f"downloads/decisions-{datetime.now():%Y-%m-%d-%H%M%S}.csv") not in before)
    press(browser, "t")
    until(lambda: {path for path in folder.glob("downloads/decisions-*.csv") if path.stat().st_size} - before)
    (path,) = set(folder.glob("downloads/decisions-*.csv")) - before
    return path


def until(true):
    """Wait for what the browser does a little later, such as the load of a picture."""
    for _ in range(1500):  # 30 seconds: a busy machine draws slowly
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def decided(rows):
    return [(row.kind, row.a, row.b, row.value) for row in rows]


def shown(*numbers):
    """What a confirmation says of the photographs that the page shows."""
    return f"{len(numbers)} photographs: {' '.join(map(key_of, numbers))}"


def test_a_person_answers_everything_by_the_true_labels_with_keys_alone(opened, project):
    press(opened, "w")
    for _ in PAIRS:
        a, b = (int(each.get_attribute("data-key"), 16) for each in opened.find_elements("css selector", ".view"))
        press(opened, "s" if TRUTH[a] == TRUTH[b] else "d")
    assert progress(opened) == "4 of 4 answered"
    press(opened, "e")
    for _ in OPEN:
        truth = TRUTH[int(find(opened, "#asked").get_attribute("data-key"), 16)]
        press(opened, str(truth + 1) if truth < 3 else "d")  # the candidates are in the order of the animals
    assert progress(opened) == "3 of 3 answered"
    press(opened, "q")
    press(opened, "1d")  # the photograph of another animal comes first
    for _ in GROUPS:
        press(opened, "s")
    assert progress(opened) == "3 of 3 answered"
    assert "All are answered" in find(opened, "#said").text
    rows = downloaded(opened, project)
    verdicts = [("same" if TRUTH[a] == TRUTH[b] else "different", key_of(a), key_of(b), "") for a, b in PAIRS]
    assert decided(rows) == [
        *verdicts,
        ("is", key_of(10), "CAT-001", ""),
        ("is", key_of(11), "CAT-002", ""),
        ("new", key_of(12), "", ""),
        ("is_not", key_of(3), "CAT-001", ""),
        ("confirm", "CAT-001", "", shown(0, 1, 2, 10)),
        ("confirm", "CAT-002", "", shown(4, 5, 6, 11)),
        ("confirm", "CAT-003", "", shown(7, 8, 9)),
    ]
    times = [datetime.fromisoformat(row.when.replace("Z", "+00:00")) for row in rows]
    assert times == sorted(set(times)) and all(row.when.endswith("Z") for row in rows)


def test_a_corrected_answer_is_the_one_that_the_project_follows(opened, project):
    press(opened, "wsa")
    press(opened, "d")  # the first pair again
    press(opened, "e1a")
    press(opened, "f")  # and the first open photograph
    rows = downloaded(opened, project)
    a, b = map(key_of, PAIRS[0])
    assert [(row.kind, row.a, row.b) for row in active(rows)] == [
        ("different", a, b),
        ("unsure", key_of(OPEN[0]), key_of(2)),
    ]
    press(opened, "z")
    corrected = [("different", a, b, ""), ("is", key_of(OPEN[0]), "CAT-001", "")]
    assert decided(active(downloaded(opened, project))) == corrected, "an undone correction brings the answer back"
    press(opened, "zz")
    assert decided(active(downloaded(opened, project))) == [("same", a, b, "")]


def test_a_new_animal_is_parted_only_after_the_project_has_it(opened, project):
    """The page could not say it: rows name photographs, and both parts would be "the same" as one of them."""
    press(opened, "q12f")
    find(opened, '.entry[data-id^="new:"]').click()
    before = decided(downloaded(opened, project))
    press(opened, "1f")
    assert find(opened, "#said").text.startswith("The project does not have this new animal yet")
    press(opened, "d")
    assert find(opened, "#said").text.startswith("Only photographs of animals of the project can be taken out")
    assert decided(downloaded(opened, project)) == before


def test_a_key_that_is_held_answers_once_and_goes_on_zooming_and_turning(opened):
    press(opened, "w")
    hold(opened, "s")
    assert progress(opened) == "1 of 4 answered"
    opened.execute_script("document.querySelector('#actions [data-key=d]').focus()")
    hold(opened, "Enter", "Enter")
    assert progress(opened) == "2 of 4 answered"
    hold(opened, "c", times=2)
    assert "2.25" in find(opened, ".view").get_attribute("style")
    hold(opened, "g", times=3)  # from the third of four pairs
    assert [each.get_attribute("data-key") for each in opened.find_elements("css selector", ".view")] == [
        key_of(number) for number in PAIRS[1]
    ]
    press(opened, "e")
    hold(opened, "1")
    assert progress(opened) == "1 of 3 answered"


def test_photographs_split_off_become_a_new_animal_and_one_undo_takes_all_of_it_back(opened, project):
    press(opened, "12f")
    assert cards(opened) == [1, 2]
    assert "New animal 1\n2 photographs" in texts(opened, ".entry")
    press(opened, "z")
    assert cards(opened) == GROUPS["CAT-001"]
    rows = downloaded(opened, project)
    assert decided(rows)[:4] == [
        ("is_not", key_of(3), "CAT-001", ""),
        ("is_not", key_of(0), "CAT-001", ""),
        ("new", key_of(3), "", ""),
        ("same", key_of(0), key_of(3), ""),
    ]
    assert decided(rows)[4:] == [("undo", row.when, "", "") for row in reversed(rows[:4])]


def test_a_burst_moves_together_but_not_the_other_animal_of_a_photograph(browser, tmp_path):
    burst = queue()
    for number in (0, 1, 3):
        burst["photographs"][number]["sequence"] = "burst"
    burst["photographs"][0]["key"] += "-2"
    burst["photographs"][3]["key"] = burst["photographs"][0]["key"].removesuffix("-2")
    write_page(tmp_path, burst, lambda key: Image.new("L", (20, 20)))
    show(browser, tmp_path)
    press(browser, "1d")
    keys = [each.get_attribute("data-key") for each in browser.find_elements("css selector", "#grid .toggle")]
    assert keys == [key_of(0) + "-2", key_of(2)]


def test_a_burst_leaves_a_photograph_that_shows_the_animal_in_another_box(browser, tmp_path):
    burst = queue()
    for number in OPEN:
        burst["photographs"][number]["sequence"] = "burst"
    burst["photographs"][11]["key"] = key_of(4) + "-2"
    write_page(tmp_path, burst, lambda key: Image.new("L", (20, 20)))
    show(browser, tmp_path)
    press(browser, "e2q")
    find(browser, ".entry:nth-child(2)").click()
    keys = [each.get_attribute("data-key") for each in browser.find_elements("css selector", "#grid .toggle")]
    assert keys == [key_of(number) for number in (4, 5, 6, 10, 12)]


def with_burst(folder, *numbers):
    """A page on which some photographs are a sequence, and the project that it is of."""
    burst, project = queue(), new_project("cats", "none")
    for number in numbers:
        burst["photographs"][number]["sequence"] = "burst"
    write_page(folder, burst, image_of)
    names = ("key", "path", "sequence", "individual", "status")
    project.photographs = [
        Photograph(hash=one["key"] + "0" * 48, **{name: one[name] for name in names}) for one in burst["photographs"]
    ]
    project.animals = [Individual(name) for name in GROUPS]
    return project


def animals_of(project, *numbers):
    return [project.by_key[key_of(number)].individual for number in numbers]


def test_a_selected_photograph_brings_its_sequence_and_the_page_counts_what_moves(browser, tmp_path):
    project = with_burst(tmp_path, 0, 1, 2)
    show(browser, tmp_path)
    press(browser, "2")
    assert find(browser, "#chosen").text == "1 selected; 2 more of its sequence move with it."
    pressed = [each.get_attribute("aria-pressed") for each in browser.find_elements("css selector", "#grid .toggle")]
    assert pressed == ["false", "true", "mixed", "mixed"]
    press(browser, "f")
    assert find(browser, "#said").text == "3 photographs made a new animal." and cards(browser) == [3]
    rows = downloaded(browser, tmp_path)
    assert decided(rows) == [("is_not", key_of(0), "CAT-001", ""), ("new", key_of(0), "", "")], "one of a sequence"
    add_decisions(project, rows)
    assert animals_of(project, 0, 1, 2, 3) == ["CAT-004"] * 3 + ["CAT-001"]


def test_a_burst_that_shows_two_animals_is_parted_one_by_one(browser, tmp_path):
    project = with_burst(tmp_path, 0, 1, 2, 3)
    show(browser, tmp_path)
    press(browser, "2")
    find(browser, "#one-by-one").click()
    assert find(browser, "#chosen").text == "1 selected, without the rest of the sequence."
    press(browser, "3f")
    assert find(browser, "#said").text == "2 photographs made a new animal." and cards(browser) == [3, 2]
    press(browser, "1")
    assert find(browser, "#chosen").text == "1 selected; 1 more of its sequence moves with it."
    press(browser, "cd")
    assert cards(browser) == [2]
    rows = downloaded(browser, tmp_path)
    assert decided(rows) == [
        ("is_not", key_of(0), "CAT-001", "alone"),
        ("is_not", key_of(1), "CAT-001", "alone"),
        ("new", key_of(0), "", "alone"),
        ("same", key_of(1), key_of(0), "alone"),
        ("is_not", key_of(3), "CAT-001", "alone"),
    ]
    assert add_decisions(project, rows) == (5, [])
    assert animals_of(project, 0, 1, 2, 3) == ["CAT-004", "CAT-004", "CAT-001", ""]


def test_photographs_that_are_all_selected_one_by_one_go_as_their_sequence(browser, tmp_path):
    with_burst(tmp_path, 0, 1)
    show(browser, tmp_path)
    press(browser, "c23d")
    assert decided(downloaded(browser, tmp_path)) == [("is_not", key_of(0), "CAT-001", "")]
    press(browser, "1x")
    assert decided(downloaded(browser, tmp_path))[1:] == [("not_animal", key_of(3), "", "")]


def test_an_open_photograph_stands_for_its_sequence(browser, tmp_path):
    project = with_burst(tmp_path, *OPEN)
    show(browser, tmp_path)
    press(browser, "e")
    assert "stands for 3 of its sequence" in texts(browser, "#answer span")
    press(browser, "s")
    assert find(browser, "#said").text == "IMG_0010.JPG and 2 more of its sequence: CAT-001."
    rows = downloaded(browser, tmp_path)
    add_decisions(project, rows)
    assert animals_of(project, *OPEN) == ["CAT-001"] * 3


def test_a_merged_animal_is_not_offered_and_decisions_go_where_it_went(opened, project):
    merge(opened, "CAT-001", "CAT-002")
    press(opened, "e")
    assert texts(opened, ".candidate b") == ["CAT-002", "CAT-003"]
    press(opened, "s")
    assert decided(downloaded(opened, project))[1:] == [("is", key_of(10), "CAT-002", "")]


def merge(browser, gone, kept):
    find(browser, "#merge").click()
    find(browser, f'#merge option[value="{kept}"]').click()
    find(browser, "#merge-now").click()


def test_decisions_on_an_animal_that_a_colleague_merged_away_stay_and_what_is_lost_is_named(opened, project):
    from selenium.webdriver.common.keys import Keys

    press(opened, "r")
    press(opened, "Ash" + Keys.ENTER)
    press(opened, "es")  # the open photograph 10 is CAT-001
    press(opened, "d")  # and 11 a new animal
    later = queue()
    one, other, *_ = later["individuals"]
    other["photographs"] = other["photographs"] + one["photographs"]
    one |= {"photographs": [], "status": "merged", "merged_into": "CAT-002"}
    for number in GROUPS["CAT-001"]:
        later["photographs"][number]["individual"] = "CAT-002"
    later["photographs"][11]["key"] = "f" * 16  # as if the photograph had gone
    write_page(project, later, lambda key: Image.new("L", (20, 20)))
    opened.refresh()
    press(opened, "q")
    assert find(opened, "#animal").text == "CAT-002 Ash"
    assert texts(opened, "#about span")[0] == "8 photographs"
    lost = "Not kept, as the project lacks their photographs or animals: new: 000000000000000b."
    assert find(opened, "#lost").text == lost
    assert [row.kind for row in downloaded(opened, project)] == ["name", "is"]


def test_what_the_browser_kept_and_is_damaged_is_not_dropped_in_silence(opened):
    press(opened, "ws")
    opened.execute_script("localStorage.setItem(stored('rows'), '[{')")
    opened.refresh()
    assert find(opened, "#lost").text.startswith("The decisions that this browser kept cannot be read")


def test_a_side_is_given_in_the_large_view_by_keys(opened, project):
    press(opened, "v")
    assert texts(opened, "#sides [aria-pressed=true]") == ["A Left"]
    press(opened, "d")
    assert texts(opened, "#sides [aria-pressed=true]") == ["D Right"]
    assert "right side" in find(opened, "#enlarged .caption").text
    press(opened, "dv")  # said already
    assert "right side" in texts(opened, "#grid .caption")[0]
    press(opened, "vs")
    find(opened, "#sides button:nth-child(4)").click()
    press(opened, "z")
    assert not find(opened, "#enlarged").is_displayed() and "both sides" in texts(opened, "#grid .caption")[0]
    rows = decided(downloaded(opened, project))
    assert rows[:3] == [("side", key_of(3), "", value) for value in ("right", "both", "unknown")]
    assert [kind for kind, *_ in rows[3:]] == ["undo"]


def test_a_browser_of_2022_is_new_enough(browser, project):
    """Functions and styles that are younger are not there."""
    young = ["toReversed", "toSorted", "toSpliced", "with"]
    script = f"for (const name of {young}) delete Array.prototype[name]; delete Map.groupBy; delete Object.groupBy;"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        session = watched(browser, project)
        next(session)
        press(browser, "2dwszesZ")
        assert browser.execute_script("return [].toSorted") is None
        assert find(browser, "#earlier").is_displayed()
        assert next(session, None) is None
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert "light-dark(" not in (project / "review.html").read_text()


def test_undo_goes_back_to_the_question_and_further_to_the_one_before(opened):
    press(opened, "wfd")
    assert progress(opened) == "2 of 4 answered"
    press(opened, "z")
    assert (progress(opened), texts(opened, "#verdict span")[0]) == ("1 of 4 answered", "Pair 2 of 4")
    press(opened, "z")
    assert (progress(opened), texts(opened, "#verdict span")[0]) == ("0 of 4 answered", "Pair 1 of 4")
    press(opened, "z")
    assert find(opened, "#said").text == "There is nothing to undo."


def test_decisions_survive_a_reload_and_go_once_the_project_has_taken_them_in(opened, project):
    press(opened, "wss")
    opened.refresh()
    assert (progress(opened), texts(opened, "#verdict span")[0]) == ("2 of 4 answered", "Pair 3 of 4")
    first = download(opened, project)
    assert re.fullmatch(r"decisions-\d{4}-\d\d-\d\d-\d{6}\.csv", first.name)
    first.rename(project / "decisions.csv")
    write_page(project, queue(), image_of)
    opened.refresh()
    assert progress(opened) == "0 of 4 answered"
    press(opened, "d")
    assert [row.kind for row in downloaded(opened, project)] == ["different"]


def test_what_the_project_has_taken_in_is_undone_by_a_new_row(opened, project):
    said = [("same", key_of(4), key_of(7)), ("is_not", key_of(3), "CAT-001"), ("confirm", "CAT-002", "")]
    rows = [Decision(f"2024-06-03T10:00:0{n}Z", "Ada", *one) for n, one in enumerate(said)]
    (project / "decisions.csv").write_text(table_text(rows, Decision))
    write_page(project, queue(), image_of)
    opened.refresh()
    press(opened, "z")
    assert find(opened, "#said").text == "There is nothing to undo. Shift Z lists what the project has taken in."
    press(opened, "Z")
    assert texts(opened, "#earlier li") == [
        "confirm: CAT-002\n2024-06-03T10:00:02Z Ada\nUndo",
        "is not: IMG_0003.JPG, CAT-001\n2024-06-03T10:00:01Z Ada\nUndo",
        "same: IMG_0004.JPG, IMG_0007.JPG\n2024-06-03T10:00:00Z Ada\nUndo",
    ]
    find(opened, "#earlier li:nth-child(2) button").click()
    assert [text[-6:] for text in texts(opened, "#earlier li")] == ["a\nUndo", "undone", "a\nUndo"]
    find(opened, "#earlier .close").click()
    assert decided(downloaded(opened, project)) == [("undo", rows[1].when, "", "")]
    press(opened, "zZ")  # once more: what was undone holds again
    assert [text[-4:] for text in texts(opened, "#earlier li")] == ["Undo"] * 3
    find(opened, "#earlier .close").click()
    first, second = downloaded(opened, project)
    assert (second.kind, second.a) == ("undo", first.when)


def test_a_file_of_decisions_is_loaded_once_and_other_files_are_refused_with_their_reason(opened, project):
    rows = ["when,who,kind,a,b,value", f"2024-06-03T10:00:00.000Z,Ada,same,{key_of(0)},{key_of(3)},"]
    rows += ['2024-06-03T10:00:05.000Z,Ada,name,CAT-001,,"Ash, the ""grey"""']
    rows += ["2024-06-03T10:00:09.000Z,Ada,same,ffffffffffffffff,eeeeeeeeeeeeeeee,"]  # of another project
    (project / "mine.csv").write_text("\r\n".join(rows))
    (project / "other.csv").write_text("path,cluster\n")
    for _ in range(2):
        find(opened, "#file").send_keys(str(project / "mine.csv"))
    until(
        lambda: (
            find(opened, "#said").text
            == "Loaded 0 decisions. The other 3 were here already or belong to another project."
        )
    )
    assert find(opened, "#animal").text == 'CAT-001 Ash, the "grey"'
    assert decided(downloaded(opened, project))[1] == ("name", "CAT-001", "", 'Ash, the "grey"')
    find(opened, "#file").send_keys(str(project / "other.csv"))
    until(
        lambda: (
            find(opened, "#said").text
            == "Expected a file of decisions with the columns when, who, kind, a, b, value; nothing was loaded."
        )
    )


def test_names_sex_and_a_merge_are_decisions_and_typing_is_no_shortcut(opened, project):
    from selenium.webdriver.common.keys import Keys

    press(opened, "r")
    press(opened, "'=sdz" + Keys.ENTER)
    assert find(opened, "#animal").text == "CAT-001 '=sdz"
    find(opened, "#sex option:nth-child(2)").click()
    find(opened, "#merge").click()
    find(opened, '#merge option[value="CAT-003"]').click()
    assert progress(opened) == "0 of 3 answered", "an arrow key in a list is no merge"
    find(opened, "#merge-now").click()
    assert progress(opened) == "1 of 3 answered"
    file = download(opened, project)
    assert decided(read_decisions(file)) == [
        ("name", "CAT-001", "", "'=sdz"),
        ("sex", "CAT-001", "", "female"),
        ("merge", "CAT-001", "CAT-003", ""),
    ]
    assert "''=sdz" in file.read_text(), "a spreadsheet does not run it"


def test_the_animal_that_stays_in_a_merge_gets_the_name_that_it_lacks(opened):
    from selenium.webdriver.common.keys import Keys

    press(opened, "rAsh" + Keys.ENTER)
    merge(opened, "CAT-001", "CAT-002")
    assert find(opened, "#animal").text == "CAT-002 Ash"
    press(opened, "r" + Keys.BACKSPACE * 3 + "Rowan" + Keys.ENTER)
    merge(opened, "CAT-002", "CAT-003")
    assert find(opened, "#animal").text == "CAT-003 Rowan"
    press(opened, "zzz")
    assert texts(opened, ".entry b")[:3] == ["CAT-001 Ash", "CAT-002", "CAT-003"]


def test_a_click_that_ends_the_typing_of_a_name_is_not_lost(opened, project):
    press(opened, "rAsh")
    find(opened, '.entry[data-id="CAT-002"]').click()
    assert find(opened, "#animal").text == "CAT-002" and texts(opened, ".entry b")[0] == "CAT-001 Ash"
    press(opened, "s")
    assert decided(downloaded(opened, project)) == [
        ("name", "CAT-001", "", "Ash"),
        ("confirm", "CAT-002", "", shown(*GROUPS["CAT-002"])),
    ]
    press(opened, "r Rowan ")
    find(opened, "#grid .card:nth-child(2) .toggle").click()
    assert find(opened, "#animal").text == "CAT-003 Rowan" and find(opened, "#name").get_attribute("value") == "Rowan"
    assert find(opened, "#chosen").text.startswith("1 selected")


def test_an_animal_without_photographs_is_answered_and_not_confirmed(opened, project):
    press(opened, "1234d")
    assert (cards(opened), progress(opened)) == ([], "1 of 3 answered")
    press(opened, "s")
    assert find(opened, "#said").text == "No photographs are left to confirm."
    press(opened, "z")
    assert (cards(opened), progress(opened)) == (GROUPS["CAT-001"], "0 of 3 answered")
    assert {row.kind for row in downloaded(opened, project)} == {"is_not", "undo"}


def test_another_animal_or_tab_is_shown_from_its_top(browser, tmp_path):
    """Else S would confirm, and 1 to 9 select, photographs that are out of view."""
    large = queue()
    large["photographs"] = [{**large["photographs"][0], "key": f"{place:016x}"} for place in range(200)]
    halves = [list(range(start, start + 100)) for start in (0, 100)]
    large["individuals"] = [
        {**one, "photographs": half} for one, half in zip(large["individuals"][:2], halves, strict=True)
    ]
    for numbers, name in zip(halves, GROUPS, strict=False):
        for number in numbers:
            large["photographs"][number]["individual"] = name
            large["photographs"][number]["status"] = "proposed"
    (tmp_path / "review.html").write_text(page(tmp_path, large))
    for width in (1280, 390):
        show(browser, tmp_path, width)
        for leave in ("document.querySelectorAll('.entry')[1].click()", "document.querySelector('#tab-open').click()"):
            browser.execute_script("scrollTo(0, 600)")
            browser.execute_script(leave)
            assert browser.execute_script("return scrollY") == 0
        press(browser, "q")
        assert find(browser, "#animal").text == "CAT-002" and len(cards(browser)) >= 60
    browser.get_log("browser")  # it has no pictures


def test_an_animal_with_proposals_beside_confirmed_photographs_is_not_answered(browser, tmp_path):
    """As a further season leaves it: the project calls an animal confirmed once one of its photographs is."""
    later = queue()
    for one in later["individuals"][:2]:
        one["status"] = "confirmed"
    for number in (*GROUPS["CAT-001"][1:], *GROUPS["CAT-002"]):
        later["photographs"][number]["status"] = "confirmed"
    write_page(tmp_path, later, image_of)
    show(browser, tmp_path)
    assert progress(browser) == "1 of 3 answered"
    assert texts(browser, "#about span")[-1] == "confirmed in part"
    press(browser, "s")
    assert find(browser, "#animal").text == "CAT-003" and progress(browser) == "2 of 3 answered"


def test_undo_goes_back_to_the_animal_of_a_photograph_that_shows_none(opened):
    press(opened, "1xgz")
    assert find(opened, "#animal").text == "CAT-001" and cards(opened) == GROUPS["CAT-001"]


def swipe(browser, x, y, by):
    """Move a finger up or down the page."""
    for place in range(11):
        points = [{"x": x, "y": y + by * place / 10}]
        touch = {"type": "touchMove" if place else "touchStart", "touchPoints": points}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_moves_photographs_that_are_zoomed_and_else_the_page(browser, project):
    show(browser, project, 360, 500)
    press(browser, "w")
    frame = find(browser, ".view").rect
    place = (frame["x"] + 50, frame["y"] + 80)
    swipe(browser, *place, -80)
    until(lambda: browser.execute_script("return scrollY") > 0)
    until(lambda: at_rest(browser))
    browser.execute_script("scrollTo(0, 0)")
    press(browser, "c")
    swipe(browser, *place, -80)
    until(lambda: browser.execute_script("return view.y") < 0)
    assert browser.execute_script("return scrollY") == 0


def at_rest(browser):
    before = browser.execute_script("return scrollY")
    time.sleep(0.3)
    return before == browser.execute_script("return scrollY")


def test_both_photographs_zoom_and_brighten_together_and_lines_join_their_points(opened):
    def styles(name):
        script = (
            "return [...document.querySelectorAll('.view')].map((each) => each.style.getPropertyValue(arguments[0]))"
        )
        return opened.execute_script(script, name)

    press(opened, "wr")
    until(lambda: len(opened.find_elements("css selector", "#lines .ends")) == 2)
    press(opened, "cb")
    assert (styles("--zoom"), styles("--brightness")) == (["1.5", "1.5"], ["1.2", "1.2"])
    press(opened, "v")
    assert styles("--zoom") == ["1", "1"]
    press(opened, "g")
    assert not find(opened, "#lines-label").is_displayed() and texts(opened, "#lines .ends") == []


def test_shortcuts_can_be_switched_off_and_stay_off(opened):
    press(opened, "?")
    find(opened, "#keys-on").click()
    find(opened, "#guide .close").click()
    opened.refresh()
    press(opened, "ws")
    assert (progress(opened), find(opened, "#tab-animals").get_attribute("aria-selected")) == (
        "0 of 3 answered",
        "true",
    )
    find(opened, "#actions .good").click()
    assert progress(opened) == "1 of 3 answered"


def test_everything_has_a_name_for_screen_readers_and_tabs_turn_with_the_arrows(opened):
    from selenium.webdriver.common.keys import Keys

    unnamed = """
        const named = (each) => each.ariaLabel || each.alt || each.textContent.trim() || each.labels?.length;
        const wanted = "button, input, select, [role=img], #grid img, #candidates img, #asked img";
        const shown = [...document.querySelectorAll(wanted)].filter((each) => each.offsetParent);
        return shown.filter((each) => !named(each)).map((each) => each.outerHTML);
    """
    for key in "qwe":
        press(opened, key)
        assert opened.execute_script(unnamed) == []
    press(opened, "q")
    find(opened, "#tab-animals").send_keys(Keys.ARROW_RIGHT)
    assert opened.switch_to.active_element.get_attribute("id") == "tab-pairs"
    assert find(opened, "#pairs").is_displayed() and not find(opened, "#animals").is_displayed()


def test_hostile_names_harm_nothing_and_a_phone_has_no_horizontal_scroll(browser, tmp_path):
    hostile = queue(path=lambda number: f"{HOSTILE}/{number}{HOSTILE}", station=HOSTILE)
    hostile["project"] = hostile["individuals"][0]["name"] = HOSTILE
    write_page(tmp_path, hostile, image_of)
    session = watched(browser, tmp_path)
    next(session)
    assert SCRIPT in find(browser, "#animal").text and "\\u202e" in find(browser, "#animal").text
    show(browser, tmp_path, 390, 844)
    for key in "qwe":
        press(browser, key)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), key
    assert next(session, None) is None


def show_many(browser, tmp_path, number: int) -> None:
    """A page of so many photographs of one animal, without pictures."""
    large = queue()
    large["photographs"] = [{**large["photographs"][0], "key": f"{place:016x}"} for place in range(number)]
    large["individuals"] = [{**large["individuals"][0], "photographs": list(range(number))}]
    (tmp_path / "review.html").write_text(page(tmp_path, large))
    show(browser, tmp_path)
    assert texts(browser, "#about span")[0] == f"{number} photographs"


def test_of_ten_thousand_photographs_only_those_near_the_view_are_drawn(browser, tmp_path):
    show_many(browser, tmp_path, 10000)
    count = "return document.querySelectorAll('#grid .toggle').length"
    before = browser.execute_script(count)
    assert before < 500
    browser.execute_script("scrollTo(0, document.body.scrollHeight)")
    until(lambda: browser.execute_script(count) > before)
    assert before < browser.execute_script(count) < 1000
    browser.get_log("browser")  # it has no pictures


def test_scrolling_down_shows_every_photograph_in_its_place(browser, tmp_path):
    show_many(browser, tmp_path, 2000)
    keys = "return [...document.querySelectorAll('#grid .toggle')].map((toggle) => toggle.dataset.key)"

    def at_the_end() -> bool:
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        return len(browser.execute_script(keys)) == 2000

    until(at_the_end)
    assert browser.execute_script(keys) == [f"{place:016x}" for place in range(2000)]
    # Every row but the last is full, whatever lies out of view.
    columns = browser.execute_script(
        "return [...document.querySelectorAll('#grid .part')].map("
        "(part) => getComputedStyle(part).gridTemplateColumns.split(' ').length)"
    )
    assert len(set(columns)) == 1 and 840 % columns[0] == 0
    browser.get_log("browser")  # it has no pictures


def test_a_project_without_questions_says_so(browser, tmp_path):
    write_page(tmp_path, {"project": "none", "photographs": [], "individuals": [], "pairs": [], "open": []}, image_of)
    session = watched(browser, tmp_path)
    next(session)
    press(browser, "sdfxwsdfesdfx12")
    assert find(browser, "#open h2").text == "There are no open photographs."
    assert next(session, None) is None


def test_pictures_are_drawn_only_where_they_are_missing_or_their_box_changed(tmp_path):
    asked = []

    def drawn(key):
        asked.append(int(key, 16))
        return image_of(key)

    write_page(tmp_path, queue(), drawn)
    assert sorted(asked) == list(range(len(TRUTH)))
    (tmp_path / "large" / f"{key_of(4)}.jpg").unlink()
    moved = queue()
    moved["photographs"][7]["box"] = (0.1, 0.1, 0.5, 0.5)
    asked.clear()
    write_page(tmp_path, moved, drawn)
    write_page(tmp_path, moved, drawn)
    assert sorted(asked) == [4, 7]


def test_pictures_have_the_sizes_of_the_page_and_small_photographs_are_not_enlarged(tmp_path):
    one = {**queue(), "photographs": queue()["photographs"][:2], "individuals": [], "pairs": [], "open": []}
    sizes = {key_of(0): (2400, 1200), key_of(1): (100, 300)}
    write_page(tmp_path, one, lambda key: Image.new("L", sizes[key]))
    drawn = {
        (folder, number): Image.open(tmp_path / folder / f"{key_of(number)}.jpg").size
        for folder in ("thumbnails", "large")
        for number in (0, 1)
    }
    assert drawn == {
        ("thumbnails", 0): (240, 120), ("large", 0): (1200, 600), ("thumbnails", 1): (80, 240), ("large", 1): (100, 300)
    }  # fmt: skip


def test_an_animal_that_is_small_in_its_photograph_keeps_its_pixels(tmp_path):
    """A fifth of the width of 48 megapixels: 1600 pixels."""
    one = {**queue(), "photographs": queue()["photographs"][:2], "individuals": [], "pairs": [], "open": []}
    Image.new("RGB", (8000, 6000)).save(tmp_path / "a.jpg")
    boxes = {key_of(0): (0.1, 0.1, 0.2, 0.2), key_of(1): (0.0, 0.0, 0.9, 0.9)}
    for photograph in one["photographs"]:
        photograph["box"] = boxes[photograph["key"]]
    write_page(tmp_path, one, lambda key: crop_of(tmp_path / "a.jpg", boxes[key]))
    sizes = [Image.open(tmp_path / "large" / f"{key_of(number)}.jpg").size for number in (0, 1)]
    assert sizes == [(1600, 1200), (2400, 1800)]


def test_drawing_is_reported_and_does_not_depend_on_threads(tmp_path, monkeypatch, caplog):
    written = []
    for threads in (1, 4):
        monkeypatch.setattr(pictures, "THREADS", threads)
        monkeypatch.setattr(progress_of, "SECONDS_BETWEEN_REPORTS", -1)
        folder = tmp_path / str(threads)
        with caplog.at_level("INFO"):
            assert pictures.write_pictures(folder, queue()["photographs"], image_of) == len(TRUTH)
        written.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")})
    assert written[0] == written[1] and len(written[0]) == 2 * len(TRUTH) + 1
    assert f"Pictures: 1 of {len(TRUTH)} photographs" in caplog.text


def test_a_drawing_that_is_stopped_does_not_draw_the_rest(tmp_path):
    asked = []

    def stopped(key):
        asked.append(key)
        raise KeyboardInterrupt

    many = [{"key": f"{number:016x}"} for number in range(500)]
    with pytest.raises(KeyboardInterrupt):
        pictures.write_pictures(tmp_path, many, stopped)
    assert len(asked) < 500


def test_a_photograph_that_cannot_be_read_leaves_an_empty_frame_and_a_warning(tmp_path, caplog):
    def broken(key):
        raise OSError("truncated\u202e file")

    write_page(tmp_path, queue(), broken)
    assert f"without {len(TRUTH)} pictures:\n  Ridge/IMG_0000.JPG: truncated\\u202e file" in caplog.text
    assert (tmp_path / "review.html").exists()


def test_a_photograph_that_the_summary_calls_unreadable_is_not_reported_again(tmp_path, caplog):
    asked, some = [], queue()
    some["photographs"][0]["status"] = "unreadable"
    write_page(tmp_path, some, lambda key: asked.append(key) or image_of(key))
    assert key_of(0) not in asked and len(asked) == len(TRUTH) - 1
    assert caplog.text == ""


def test_a_key_that_leads_out_of_the_folder_is_refused(tmp_path):
    wrong = queue()
    wrong["photographs"][0]["key"] = "../../etc"
    with pytest.raises(ValueError, match=r"a photograph's key of letters, digits, - and _, got ../../etc"):
        write_page(tmp_path, wrong, image_of)
    assert list(tmp_path.iterdir()) == []

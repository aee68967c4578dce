#!/usr/bin/env python3
"""What a project costs by its number of photographs: to discover it, to match one more, to scroll its review page.

    OMP_NUM_THREADS=2 python benchmarks/discovery.py 300 1000 3000 10000 [--size 400 300] [--discover --local 0 ...]

Draws red pandas, about 20 photographs each, and runs `fancl discover` on them. Seconds by the clock are those that the
command prints, and the peak is that of its memory. Then a few photographs are matched, and all photographs of the
review page are scrolled through in Chromium, where Selenium can start it. Prints Markdown.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from chromium import chromium
from tables import Tables, add_output

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import fastreid_fancl  # noqa: E402
from fastreid_fancl.data.synthetic.catalogue import RECIPES  # noqa: E402
from fastreid_fancl.data.synthetic.write import draw  # noqa: E402
from fastreid_fancl.engine.record import gib_of  # noqa: E402
from fastreid_fancl.machine import available_cores  # noqa: E402

STEPS = ("features", "local matches", "grouping")
FITTED = (*(f"{step} s" for step in STEPS), "all s", "peak GiB", "match s")
COLUMNS = ("photographs", "animals", *FITTED, "page s", "frames", "median ms", "99% below ms")
MATCHES = 5
# Scrolls through all photographs, and gives the milliseconds between frames.
SCROLL = """
const done = arguments[0], times = [];
let last = performance.now();
selectAnimal("*");
requestAnimationFrame(function frame(now) {
  times.push(now - last);
  last = now;
  const before = scrollY;
  scrollBy(0, 600);
  if (scrollY > before && times.length < 5000) requestAnimationFrame(frame);
  else done(times);
});
"""


def main() -> None:
    """Measure one number of photographs after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=int)
    parser.add_argument("--size", nargs=2, type=int, default=(400, 300), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--discover", nargs=argparse.REMAINDER, default=[], help="further arguments of discover")
    add_output(parser)
    args = parser.parse_args()
    tables = Tables(args.output, "CPU", int(os.environ.get("OMP_NUM_THREADS", available_cores())))
    tables.begin(COLUMNS)
    rows = []
    for number in args.photographs:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(Path(folder), number, tuple(args.size), args.discover))
        tables.go_on(rows[-1])
    if len(rows) > 1:
        number = np.log([row["photographs"] for row in rows])
        columns = {name: [row.get(name, 0) for row in rows] for name in FITTED}
        fits = {name: np.polyfit(number, np.log(values), 1)[0] for name, values in columns.items() if min(values) > 0}
        tables.say("\nExponents: " + ", ".join(f"{name} {value:.2f}" for name, value in fits.items()))


def measured(folder: Path, number: int, size: tuple[int, int], options: list[str]) -> dict[str, float]:
    """The row of a number of photographs, drawn below a folder."""
    photos, project = folder / "photos", folder / "project"
    recipe = replace(RECIPES["SyntheticPandas"], train=number // 20, train_images=number, test=0, gallery_images=0)
    draw(replace(recipe, size=size), photos, available_cores())
    command = [sys.executable, "-c", "from fastreid_fancl.individuals.command import discover; discover()"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, str(project), "--photos", str(photos), *options], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"discover ended with {os.waitstatus_to_exitcode(status)}")
    seconds = time.perf_counter() - began
    opened = fastreid_fancl.open(project)
    row = {"photographs": number, "animals": sum(not animal.merged_into for animal in opened.individuals())}
    row |= {f"{step} s": value for step, value in said((project / "summary.txt").read_text()).items()}
    row |= {"all s": seconds, "peak GiB": gib_of(used.ru_maxrss), "match s": match_seconds(opened, photos)}
    return row | scrolled(project / "review.html")


def said(summary: str) -> dict[str, float]:
    """Seconds of the steps, by a project's summary."""
    return {step: float(found[1]) for step in STEPS if (found := re.search(rf"{step} ([\d.]+) s", summary))}


def match_seconds(project, photos: Path) -> float:
    """Median seconds of a match, after a first one that loads the encoder and the known photographs."""
    seconds = []
    for path in sorted(photos.rglob("*.jpg"))[: MATCHES + 1]:
        began = time.perf_counter()
        project.match(path)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def scrolled(page: Path) -> dict[str, float]:
    """How long the page takes to open, and the frames of scrolling through it; empty without Chromium."""
    browser = chromium()
    if browser is None:
        return {}
    with browser:
        browser.set_script_timeout(600)
        began = time.perf_counter()
        browser.get(page.as_uri())
        seconds, times = time.perf_counter() - began, browser.execute_async_script(SCROLL)[1:]
    return {
        "page s": seconds,
        "frames": len(times),
        "median ms": statistics.median(times),
        "99% below ms": float(np.quantile(times, 0.99)),
    }


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Draw the pictures of the review page in docs/individuals.md: a zoo of drawn red pandas, in Chromium.

python benchmarks/pictures.py [--output docs]
"""

import argparse
import csv
import io
import sys
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from chromium import MISSING, chromium
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastreid_fancl.data.synthetic.catalogue import RECIPES  # noqa: E402
from fastreid_fancl.data.synthetic.write import draw  # noqa: E402
from fastreid_fancl.individuals.command import discover  # noqa: E402

RECIPE = replace(RECIPES["SyntheticTiny"], train=6, train_images=48, test=0, gallery_images=0, size=(400, 300))
STATIONS, FIRST = 4, 36  # photographs of the first season
TABS = {"animals": "review_animals.png", "pairs": "review_pairs.png", "open": "review_open.png"}


def main() -> None:
    """Draw, discover, and take a picture of each tab."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "zoo")
        draw(RECIPE, Path(folder, "drawn"), 1)
        drawn = sorted(Path(folder, "drawn").rglob("*.jpg"), key=lambda path: path.name[::-1])
        for year, photographs in ((2024, drawn[:FIRST]), (2025, drawn[FIRST:])):  # the second leaves some open
            photos = Path(folder, str(year))
            table = as_of_stations(photographs, photos, datetime(year, 6, 2, 6, 30))
            discover([str(project), "--photos", str(photos), "--table", str(table)])
        browser = chromium()
        if browser is None:
            raise SystemExit(MISSING)
        with browser:
            size = {"width": 1100, "height": 620, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get((project / "review.html").as_uri())
            for tab, name in TABS.items():
                browser.find_element("css selector", f'[role="tab"][aria-controls="{tab}"]').click()
                with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as picture:
                    picture.convert("RGB").quantize(256).save(args.output / name, optimize=True)


def as_of_stations(photographs: list[Path], photos: Path, first: datetime) -> Path:
    """Move photographs as if camera traps had taken them; returns a table of their stations and times."""
    rows = []
    for number, path in enumerate(photographs):
        station = f"Station{number % STATIONS + 1:02d}"
        place = photos / station / f"IMG_{number // STATIONS + 1:04d}.JPG"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
        time = first + timedelta(minutes=187 * number)
        rows.append([place.relative_to(photos).as_posix(), station, f"{time:%Y-%m-%d %H:%M:%S}"])
    table = photos.with_suffix(".csv")
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "station", "date_time"), *rows])
    return table


if __name__ == "__main__":
    main()

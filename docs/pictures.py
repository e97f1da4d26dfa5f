"""A picture of a page for the documentation, by a headless Chromium.

python docs/pictures.py runs/compare-digits/report.html docs/report.png 1280x2380
python docs/pictures.py diagnosis.html docs/diagnosis.png 1280x1100
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take(page: Path, picture: Path, size: str) -> None:
    """Draw the upper part of a page in light colours.

    Arguments:
        page: an HTML file.
        picture: the PNG file to write.
        size: width and height in pixels, "1280x1100".
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603 -- a browser on this machine, with a page of this machine
            [
                browser,
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking", "--hide-scrollbars"),
                f"--user-data-dir={profile}",
                f"--window-size={size.replace('x', ',')}",
                "--virtual-time-budget=10000",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

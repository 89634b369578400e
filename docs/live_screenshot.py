"""Takes a picture of the live page of a real `picture` run: `python docs/live_screenshot.py docs/live.png`.

Needs chromium, chromium-driver and selenium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tuner.live.link import Link
from tuner.live.running import LiveRequest, LiveTraining, link_of

SIZE = "1150,1240"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as folder:
        live = LiveTraining(
            LiveRequest("picture", studies=Path(folder), settings={"model.frequencies": 4}, port=0), link_of
        )
        assert isinstance(live.watcher, Link)
        thread = threading.Thread(target=live.train)
        thread.start()
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        driver.get(live.watcher.url)
        for step, name, value in ((900, "learning_rate", 0.012), (2400, "loss", "l1"), (3600, "learning_rate", 0.001)):
            while live.run.steps_done < step:
                time.sleep(0.05)
            live.session.desk.turn(name, value)
        while live.run.steps_done < 5000:
            time.sleep(0.05)
        time.sleep(1)
        taken = driver.get_screenshot_as_png()
        driver.quit()
        live.session.desk.press("stop")
        thread.join()
        live.watcher.close("ended")
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(192).save(arguments.picture, optimize=True)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()

"""The page in Chromium, with real clicks, on drawn faces that are aligned already."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

from proxylesskd.recognition.recognizer import Recognizer
from proxylesskd.web.folder import write_page
from tests.recognition.stand_in import aligned, write_model
from tests.web.stand_in import write_detector

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or shutil.which("npm") is None, reason="needs Chromium and npm"),
]
PLAYWRIGHT = "playwright-core@1.64.1"
SCRIPT = r"""
import { chromium } from "playwright-core";
import { readFileSync } from "fs";
const { url, executable, first, second, other, broken, shots } = JSON.parse(readFileSync(0, "utf8"));
const quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: executable, args: quiet });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
const told = { errors: [], elsewhere: [], wide: [] };
page.on("pageerror", (error) => told.errors.push(error.message));
page.on("request", (request) => {
  if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(url)) told.elsewhere.push(request.url());
});
const choose = (slot, file) => page.setInputFiles(`#${slot} input[type=file]`, file);
const verdict = () => page.textContent("#verdict");
await page.goto(url);
await page.waitForFunction(() => document.querySelector("#verdict").textContent.startsWith("Ready"));
await page.click("#aligned");
await choose("first", first);
await page.waitForFunction(() => !document.querySelector("#first .face").hidden);
let started = Date.now();
await choose("second", second);
await page.waitForFunction(() => ["same", "different"].includes(document.querySelector("#answer").dataset.state));
told.milliseconds = Date.now() - started;
told.same = await verdict();
told.embeddings = await page.evaluate(async () => (await import("./app.js")).slots.map((slot) => [...slot.embedding]));
for (const colorScheme of ["light", "dark"]) for (const width of [1280, 390]) {
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width, height: 844 });
  if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) told.wide.push(width);
  await page.screenshot({ path: `${shots}/${width}-${colorScheme}.png`, fullPage: true });
}
await choose("second", other);
await page.waitForFunction(() => document.querySelector("#answer").dataset.state === "different");
told.different = await verdict();
told.strict = await page.inputValue("#far");
await page.selectOption("#far", "1e-2");
told.threshold = await page.textContent("#detail");
await choose("second", broken);
await page.waitForSelector("#second .wrong");
told.broken = await page.textContent("#second .said");
told.after = await verdict();
await page.click("#aligned");
await page.waitForSelector("#first .wrong");
told.blank = await page.textContent("#first .said");
console.log(JSON.stringify(told));
await browser.close();
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    write_detector(tmp_path / "yunet.onnx")
    page = write_page(write_model(tmp_path / "colours.onnx"), tmp_path / "web", detector=tmp_path / "yunet.onnx")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(page.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def drive(folder: Path, given: dict[str, str]) -> dict[str, Any]:
    npm = ["npm", "install", "--prefix", str(folder), "--no-audit", "--ignore-scripts", PLAYWRIGHT]
    subprocess.run(npm, check=True, capture_output=True, timeout=300)
    (folder / "drive.mjs").write_text(SCRIPT)
    command, said = ["node", "drive.mjs"], json.dumps(given)
    done = subprocess.run(command, cwd=folder, input=said, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_two_photos_are_compared_in_the_browser(served: str, tmp_path: Path) -> None:
    files = {"first": aligned(1), "second": aligned(1, 1), "other": aligned(4)}
    for name, pixels in files.items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_text("no picture")
    shots = Path(os.environ.get("PROXYLESSKD_SHOTS", tmp_path))
    given = {name: str(tmp_path / f"{name}.png") for name in [*files, "broken"]}
    told = drive(tmp_path, given | {"url": served, "executable": str(CHROMIUM), "shots": str(shots)})
    print({key: value for key, value in told.items() if key != "embeddings"})
    assert told["errors"] == told["elsewhere"] == told["wide"] == []
    assert told["milliseconds"] < 2000
    assert (told["same"], told["different"]) == ("Same person", "Different people")
    assert told["strict"] == "1e-3"
    assert "threshold 0.500" in told["threshold"]
    assert "no picture" in told["broken"]
    assert told["after"].startswith("One face is ready")
    assert "No face was found" in told["blank"]
    recognizer = Recognizer(tmp_path / "colours.onnx", aligned=True)
    for mine, theirs in zip(told["embeddings"], recognizer.embed([given["first"], given["second"]]), strict=True):
        assert float(np.array(mine) @ theirs) / float(np.linalg.norm(mine)) > 0.9999
    assert len(list(shots.glob("*-*.png"))) == 4

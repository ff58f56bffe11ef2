"""Headless Chromium for tests of what a person sees."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), "")
# Fresh profile, no conversation of the browser's own with anybody.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=8000",
)
# Before anything else of the page runs: what it asks for, refuses and throws.
_WATCH = """<script>
window.seen = {errors: [], violations: []};
addEventListener("error", (event) => seen.errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => seen.violations.push(event.blockedURI));
</script>"""
_TELL = """<script>
addEventListener("load", () => setTimeout(async () => {
  const told = await (async () => { %s })();
  parent.postMessage(JSON.stringify({...seen, told,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name)}), "*");
}, 500));
</script></body>"""
_FRAME = """<!DOCTYPE html><body style="margin:0"><iframe src="%s" style="border:0;width:%dpx;height:%dpx"></iframe>
<pre id="told"></pre><script>
addEventListener("message", (event) => { document.getElementById("told").textContent = event.data; });
</script></body>"""


def look(page: Path, folder: Path, script: str, width: int, dark: bool = False) -> dict[str, Any]:
    """Opens a page in a frame of ``width`` pixels and runs the body of an async function in it.

    Gives ``told``, what that returned; ``errors``, ``violations`` of the page's own policy, ``requests`` and the lines
    that it wrote to the ``console``.
    """
    watched, frame = folder / "watched.html", folder / "frame.html"
    content = page.read_text(encoding="utf-8").replace("<head>", f"<head>{_WATCH}", 1)
    watched.write_text(content.replace("</body>", _TELL % script), encoding="utf-8")
    frame.write_text(_FRAME % (watched.as_uri(), width, 3000), encoding="utf-8")
    command = [
        CHROMIUM,
        *_FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={max(width, 500)},3000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]
    answer = subprocess.run([*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120)
    told = re.search(r'<pre id="told">(.+?)</pre>', answer.stdout, re.DOTALL)
    assert told, answer.stderr
    console = [line for line in answer.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(told[1])) | {"console": console}

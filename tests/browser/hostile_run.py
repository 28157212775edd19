"""A run in which every text that comes from data or folders would rather be markup, a template or a command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import scalselect
from scalselect.dataset.opening import open_pool
from scalselect.explanations_file import Explanation, Explanations, write_explanations
from scalselect.printable import printable
from scalselect.records import Reason, RowRecord
from scalselect.report_page.shown_rows import explained_rows
from scalselect.run_folder import RunFolder
from scalselect.segments import shards_of
from scored_runs import FACTS, clustered_vectors, hashed

ROWS = 160
RUN = "window.__pwned=1"
PAYLOADS = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}><script>{RUN}</script></svg>",
    f'"\' onmouseover={RUN} autofocus onfocus={RUN} x="',
    f"--></title></style></textarea></noscript><script>{RUN}</script>",
    f"<!--<script >{RUN}//",
    "{{ 7 * 7 }}{% raw %}{{ config }}${7*7}#{7*7}<%= 7*7 %>",
    f"javascript:{RUN}",
    f"<a href='javascript:{RUN}'>x</a><iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'><base href=https://example.org/><form action=//x>",
    "<style>@import 'https://example.org/x.css';*{display:none}</style><link rel=stylesheet href=//example.org>",
    "]]>&lt;script&gt;&amp;&#60;b&#62;\\u003cscript\\u003e",
    "\x1b]0;named\x07\x1b[2J\x1b[31mred\x9b0m\x00\x08",
    "\u202egnp.exe\u2066 \u200b\u200f\ufeff\u2028\u2029",
    "half \ud83d of a pair \udc00",
    "e" + "\u0301" * 300 + " \U000e0041\ufdfd" * 5,
    "__proto__",
    "constructor",
    f"</script x=><script >{RUN}</script >",
)
NAMED = PAYLOADS[2] + "\x1b[31m\u202e"  # of files, folders and models
KINDS = (PAYLOADS[0], PAYLOADS[13], PAYLOADS[14] + "\n" + PAYLOADS[5])
SOURCES = (PAYLOADS[3] + "\u202e\x9b0m", PAYLOADS[7])
LONG = "<b>&\u202e " * 140_000  # more than a million characters


def build_hostile(folder):
    """Write pool, run, attention of some rows, the page, a second run and the page of both."""
    place = folder / f"{NAMED} of data"
    (place / "pictures").mkdir(parents=True)
    records = [_record(row, place) for row in range(ROWS)]
    data = place / f"{NAMED}.json"
    data.write_text(json.dumps(records))
    run = RunFolder(folder / "run")
    pool = open_pool(data)
    represent = {"rows": ROWS, "shard_size": ROWS, "threads": 1, "limit": None, "vectors": "vision"}
    represent |= {"data_format": pool.format, **{f"data_{key}": value for key, value in pool.fingerprint().items()}}
    represent |= {"chat_template": PAYLOADS[1] + NAMED, "revision": PAYLOADS[4] + NAMED}
    facts = {"data": {"path": str(data), "source": SOURCES[0]}, "model": NAMED, "package": PAYLOADS[0]}
    facts["versions"] = {"numpy": NAMED, PAYLOADS[5] + NAMED: PAYLOADS[13]}
    run.create({"represent": represent, "score": None, "select": None, **facts})
    samples = list(pool.samples_at(range(ROWS)))
    lines = [_line(row, sample.identity, records[row]) for row, sample in enumerate(samples)]
    kept = [row for row, line in enumerate(lines) if line.status == "scored"]
    run.store.publish(0, range(ROWS), lines, clustered_vectors(ROWS)[kept], FACTS)
    scalselect.score(run.path)
    scalselect.select(run.path, budget="16%,30", stratify_by="kind", deduplicate="exact")
    _explain(run)
    scalselect.report(run.path)
    second = folder / f"{NAMED} <script>"
    shutil.copytree(run.path, second)
    scalselect.score(second, energy=0.6)
    scalselect.select(second, budget="12%")
    scalselect.report(run.path, second, output=folder / "run" / "comparison.html")


def _record(row, place):
    payload = PAYLOADS[row % len(PAYLOADS)]
    name = f"pictures/{row}{NAMED}'\"&;.png"
    if row % 10 != 7:
        Image.new("RGB", (40 + row, 30), (row, 90, 200)).save(place / name)
    asked = LONG if row in {0, 1, 40} else f"{payload} ({row // 2 if row < 20 else row})"
    turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": payload}]
    return {"id": f"{payload}{row}", "kind": KINDS[row % 3], "image": name, "conversations": turns}


def _line(row, identity, record):
    payload = PAYLOADS[row % len(PAYLOADS)]
    status = "skipped" if row % 10 == 7 else "scored"
    image = row // 2 if row < 20 else row
    return RowRecord(
        identity=replace(identity, source=SOURCES[row % 4 == 0]),
        status=status,
        reason=Reason.IMAGE_MISSING if status == "skipped" else None,
        detail=printable(f"{payload} is not there") if status == "skipped" else None,
        images=1,
        image_sha256=(hashed(str(image)),) if status == "scored" else (),
        text_sha256=hashed(str(image)),
        tokens=10 + row,
        vision_tokens=4,
        kept_tokens=2,
        turns=2,
    )


def _explain(run):
    rows = explained_rows(pq.read_table(run.scores)).tolist()
    boxes = np.array([[x, y, x + 0.5, y + 0.5] for y in (0, 0.5) for x in (0, 0.5)], dtype=np.float32)
    share, kept = np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32), np.array([True, True, True, False])
    known = rows[::2]
    image = np.zeros(4, dtype=np.int32)
    found = {row: Explanation(row=row, attention=share, kept=kept, image=image, boxes=boxes) for row in known}
    missing = {row: PAYLOADS[row % len(PAYLOADS)] for row in rows[1::2]}
    explanations = Explanations(rows=found, missing=missing, boxes_unknown=None)
    write_explanations(run.explanations, explanations, {"store": run.store.digest(shards_of(run.require()))})

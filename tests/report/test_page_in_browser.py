"""What the page's script does, in Chromium where it is installed: cards sorted, filtered, some at a time, reset."""

import json
import math
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report import made

from medlat.data import modality
from medlat.report.comparison import Column, Told, write_comparison
from medlat.report.compile import compile_report
from medlat.report.page import Report, Traversal, TraversalSet, write_page
from medlat.report.rendering import Look

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
STEPS = [-1.0, 0.0, 1.0]
RAMP = np.linspace(-1000.0, 1000.0, 64).reshape(8, 8)
CT = Look(modality.CT, (-1000.0, 500.0))


def asked_of(report: Report, script: str, folder: Path) -> Any:
    """What a script finds on the page of a report."""
    write_page(folder / "index.html", report)
    return answer(folder / "index.html", script)


def answer(path: Path, script: str) -> Any:
    """What a script leaves as `data-told` of a page's body."""
    told = f"<script>addEventListener('load', () => setTimeout(() => {{{script}}}, 200));</script></body>"
    html = path.read_text(encoding="utf-8")
    path.write_text(html.replace("</body>", told), encoding="utf-8")
    done = chromium("--dump-dom", path)
    return json.loads(unescape(re.findall('data-told="([^"]*)"', done.stdout)[0]))


def chromium(option: str, page: Path) -> subprocess.CompletedProcess:
    call = [CHROMIUM, *OPTIONS, option, page.as_uri()]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)


HELPERS = """
  const form = document.querySelector("form.movers"), all = [...document.querySelectorAll(".card")];
  const heads = () => [...document.querySelectorAll(".card:not([hidden]) h4")].map((head) => head.textContent);
  const grey = (card, which, x, y) => {
    const canvas = card.querySelector(which), size = canvas.width / 8;
    return canvas.getContext("2d").getImageData((x + 0.5) * size, (y + 0.5) * size, 1, 1).data[0];
  };
  const tell = (told) => document.body.dataset.told = JSON.stringify(told);
"""


def test_cards_are_sorted_filtered_and_reset(tmp_path):
    cards = [
        Traversal("unnamed 10", np.stack([RAMP] * 3), named=False, evidence=0.5),
        Traversal("unnamed 2", np.stack([RAMP] * 3), named=False, evidence=0.1, reach=0.5),
        Traversal("size +1 mm/σ", np.stack([RAMP] * 3), evidence=0.3),
        Traversal("unnamed 3", np.stack([RAMP] * 3), named=False, evidence=math.nan),
    ]
    script = (
        HELPERS
        + """
      const told = { first: heads() };
      form.elements.order[1].click(); told.byName = heads();
      form.elements.named.click(); told.named = heads();
      const slider = document.querySelector(".card:not([hidden]) input[type=range]");
      slider.value = 2; slider.dispatchEvent(new Event("input"));
      told.moved = slider.value;
      const short = all.find((card) => card.querySelector("h4").textContent === "unnamed 2").querySelector("input");
      told.short = [short.min, short.max];
      form.elements.beyond.click(); told.beyond = [short.min, short.max];
      form.reset();
      setTimeout(() => tell({ ...told, after: heads(), reset: slider.value, again: [short.min, short.max] }), 50);
    """
    )
    report = Report("t", "v", {}, CT, traversal_sets=[TraversalSet("pca", cards, STEPS)])
    told = asked_of(report, script, tmp_path)
    by_evidence = ["unnamed 10", "size +1 mm/σ", "unnamed 2", "unnamed 3"]
    assert told["first"] == told["after"] == by_evidence
    assert told["byName"] == ["size +1 mm/σ", "unnamed 2", "unnamed 3", "unnamed 10"]
    assert told["named"] == ["size +1 mm/σ"]
    assert (told["moved"], told["reset"]) == ("2", "1")
    assert told["short"] == told["again"] == ["1", "1"]
    assert told["beyond"] == ["0", "2"]


def test_a_window_shows_its_values_and_a_change_is_red_where_values_rise(tmp_path):
    flat = np.full((3, 8, 8), 40.0)
    flat[2] += 100.0
    flat[0] -= 1000.0
    cards = [Traversal("a", flat, original=np.full((8, 8), 240.0))]
    script = (
        HELPERS
        + """
      const card = all[0], slider = card.querySelector("input[type=range]");
      const at = (value) => {
        slider.value = value; slider.dispatchEvent(new Event("input"));
        return grey(card, ".moved", 4, 4);
      };
      const told = { chest: [at(0), at(1), at(2), grey(card, ".beside", 4, 4)] };
      form.elements.window[2].click();
      told.soft = [at(0), at(1), at(2), grey(card, ".beside", 4, 4)];
      form.elements.view[1].click();
      const pixel = () => [...card.querySelector(".moved").getContext("2d").getImageData(5, 5, 1, 1).data];
      at(2); told.rise = pixel(); at(0); told.fall = pixel(); at(1); told.same = pixel();
      tell(told);
    """
    )
    report = Report("t", "v", {}, CT, traversal_sets=[TraversalSet("pca", cards, STEPS)])
    told = asked_of(report, script, tmp_path)
    assert told["chest"] == pytest.approx([round(255 * (v + 1000) / 1500) for v in (-960, 40, 140, 240)], abs=1)
    assert told["soft"] == pytest.approx([0, 127.5, 191, 255], abs=2)
    assert told["rise"][0] > told["rise"][2] + 5, "red"
    assert told["fall"][2] > told["fall"][0] + 50, "blue"
    assert max(told["same"][:3]) - min(told["same"][:3]) <= 3


def test_many_cards_come_some_at_a_time(tmp_path):
    cards = [Traversal(f"image {i + 1}", np.stack([RAMP] * 3)) for i in range(30)]
    script = (
        HELPERS
        + """
      const more = document.querySelector(".more"), told = [[heads().length, more.textContent]];
      more.click(); told.push([heads().length, more.textContent]);
      more.click(); told.push([heads().length, more.hidden]);
      tell({ told });
    """
    )
    report = Report("t", "v", {}, CT, traversal_sets=[TraversalSet("tumour?", cards, STEPS)])
    told = asked_of(report, script, tmp_path)["told"]
    assert told == [[12, "12 more of 30"], [24, "6 more of 30"], [30, True]]


def test_an_explanation_prints_on_at_most_eight_pages(tmp_path):
    folder = made.explanation(tmp_path / "explanation", images=8, side=32)
    more = {"explanation": folder, "explained": folder, "classifier": made.classifier(tmp_path / "classifier")}
    compile_report(made.inputs(tmp_path, "HU", pdf=False, **more), tmp_path / "run")
    chromium(f"--print-to-pdf={tmp_path / 'page.pdf'}", tmp_path / "run" / "report" / "index.html")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert 3 <= len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 8


def test_runs_are_put_in_the_order_of_a_number(tmp_path):
    values = {"a": 0.2, "b": 0.7, "c": math.nan, "d": 0.5}
    columns = [
        Column(name, {}, "", [], {"purity": Told(value)} if math.isfinite(value) else {}, None, False)
        for name, value in values.items()
    ]
    script = """
      const heads = () => [...document.querySelectorAll(".sideways thead th")].slice(1).map((head) => head.textContent);
      const button = document.querySelector(".sideways button"), told = [];
      button.click(); told.push(heads());
      button.click(); told.push(heads());
      document.body.dataset.told = JSON.stringify(told);
    """
    write_comparison(tmp_path / "index.html", columns, None, 0)
    assert answer(tmp_path / "index.html", script) == [["b", "d", "a", "c"], ["a", "d", "b", "c"]]

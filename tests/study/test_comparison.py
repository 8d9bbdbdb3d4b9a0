"""Runs side by side: each number with its interval and its controls, links that hold, and no place of the machine."""

import json
import math
import re
import shutil

import pytest
from PIL import Image

from medlat.core.tables import write_table
from medlat.report.style import without_folders
from medlat.study.collect import collect, varying
from medlat.study.comparison import leave_comparison, numbers_of
from medlat.study.conclusion import conclude

NUMBERS = {
    "semantics/pca/named": 2.0, "semantics/random/named": 0.0, "semantics/pca/factor_purity": 0.61,
    "semantics/pca/factor_purity_low": 0.5, "semantics/pca/factor_purity_high": 0.7,
    "semantics/random/factor_purity": 0.3, "reconstruction/psnr": 24.5, "explanation/pca/flips_in_range": 0.9,
    "explanation/random/flips_in_range": 0.4, "explanation/pca/agreement/second": 0.8, "classifier/auc": 0.95,
    "permuted/auc": 0.52, "explanation/pca/realism": None,
}  # fmt: skip
FINDING = "Of 8 pca directions 2 can be named: size & shape."
CARD = f"# Model card: x\n\n{FINDING}\n\n> Phantom data.\n\n## Model\n\n> not this\n"


def leave(folder, overrides, numbers=NUMBERS, page=True):
    """A finished run."""
    (folder / "report").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "environment.json").write_text(json.dumps({"overrides": overrides}))
    (folder / "metrics.json").write_text(json.dumps(numbers))
    roles = {name: {"method": name, "role": role} for name, role in (("pca", "main"), ("random", "control"))}
    (folder / "artifacts.json").write_text(json.dumps(roles | {"generator": {"key": "k", "path": "p"}}))
    (folder / "model_card.md").write_text(CARD)
    Image.new("RGB", (1440, 300), (200, 30, 30)).save(folder / "figures" / "first_look.png")
    (folder / "report" / ("index.html" if page else "no_page.txt")).write_text("")
    row = {"method": "pca", "score": "flips_in_range", "value": 0.9, "low": 0.8, "high": 0.95, "images": 64}
    write_table(folder / "scorecard.csv", [row, row | {"method": "random", "low": math.nan, "high": math.nan}])


def test_numbers_have_their_interval_their_images_and_their_controls(tmp_path):
    leave(tmp_path / "0", [])
    (run,) = collect(tmp_path)
    found = numbers_of(run)
    assert found["directions with a name"].beside == {"random": 0.0}
    assert found["mean purity, known factors"].text == "0.61 [0.5, 0.7]"
    assert found["images that flip near the data"].text == "0.9 [0.8, 0.95], n = 64"
    assert found["images that flip near the data"].controls == "random 0.4"
    assert found["AUC of the classifier"].beside == {"permuted labels": 0.52}
    assert found["second agrees"].value == 0.8
    assert "realism, real: 1" not in found, "nothing was measured"


def page_of(folder):
    leave_comparison(collect(folder), folder)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_each_run_is_a_column_with_its_sentence_and_a_link(tmp_path):
    leave(tmp_path / "a b", ["directions=pca", "data.root=/home/someone/ct"])
    leave(tmp_path / "1", ["directions=ica", "data.root=/home/someone/other"], page=False)
    html = page_of(tmp_path)
    assert "2 runs, side by side" in html
    assert "it is the best of 2" in re.sub(r"\s+", " ", html)
    assert html.count("size &amp; shape") == 2
    assert html.count("Phantom data.") == 2
    assert "not this" not in html
    assert re.findall(r'href="([^"#]*)"', html) == ["a%20b/report/index.html"]
    assert html.count("data:image/webp") == 2
    assert "someone" not in html
    assert "data.root=ct" in html
    assert 'data-number="0.61"' in html
    assert len(html) < 200_000


def test_means_over_seeds_stand_below(tmp_path):
    for seed, purity in ((0, 0.5), (1, 0.7)):
        leave(tmp_path / str(seed), [f"seed={seed}"], NUMBERS | {"semantics/pca/factor_purity": purity})
    html = page_of(tmp_path)
    assert "Over seeds" in html
    assert "0.6 [" not in html, "of two trainings there is no interval"
    leave(tmp_path / "2", ["seed=2"], NUMBERS | {"semantics/pca/factor_purity": 0.6})
    assert "0.6 [0.352, 0.848]" in page_of(tmp_path), "Student's t of two degrees of freedom"
    shutil.rmtree(tmp_path / "2")
    (tmp_path / "1" / "report" / "index.html").unlink()
    html = page_of(tmp_path)
    assert "1 of 2 runs finished" in html
    assert "Over seeds" not in html
    assert "the best of" not in html, "there is one"


def test_a_sweep_leaves_the_page(tmp_path, capsys):
    leave(tmp_path / "0", ["seed=0"])
    assert conclude(tmp_path) == 0
    assert "1 of 1 runs, in index.html and runs.csv" in capsys.readouterr().out
    assert (tmp_path / "index.html").exists()


def test_where_things_lie_is_no_setting(tmp_path):
    for name in ("0", "1"):
        leave(tmp_path / name, [f"store=/somewhere/{name}", f"report.gifs={name}", f"seed={name}"])
    assert varying(collect(tmp_path)) == ["seed"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("/a/b/ct", "ct"), ("'~/my data'", "my data"), ("sefa", "sefa"), ("a/b", "a/b"), ("0.5", "0.5")],
)
def test_a_place_is_shown_by_its_last_part(value, shown):
    assert without_folders(value) == shown

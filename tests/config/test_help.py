from collections.abc import Callable
from pathlib import Path

from medlat.config.help import WIDTH, help_text, is_base, options
from medlat.config.locate import config_dir


def test_options_with_their_first_comment(conf: Path, tmp_path: Path, write_tree: Callable[..., Path]) -> None:
    assert options([str(conf)], "experiment") == {"first": "The first one", "paper/second": "The second one"}
    assert options([str(conf)], "data") == {"folder": "A folder of images: data.root=DIR", "phantom": "Drawn images"}
    own = write_tree(tmp_path / "own", {"data/phantom.yaml": "# Shadowed", "data/bare.yaml": "a: 1 # not this"})
    assert options([str(conf), str(own)], "data") == {
        "bare": "",
        "folder": "A folder of images: data.root=DIR",
        "phantom": "Drawn images",
    }
    assert options([str(conf)], "no_such_group") == {}


def test_bases_are_told_by_name() -> None:
    assert [name for name in ("ct", "ct_base", "base", "paper/_shared", "baseline", "database") if is_base(name)] == [
        "ct_base",
        "base",
        "paper/_shared",
    ]


def test_page_is_aligned_and_narrow(tmp_path: Path, write_tree: Callable[..., Path]) -> None:
    long = "word " * 40
    page = help_text([str(write_tree(tmp_path / "c", {"data/a.yaml": f"# {long}", "data/longer.yaml": "# B"}))])
    lines = page.splitlines()
    assert max(map(len, lines)) <= WIDTH
    start = lines.index("Data sources (data=NAME):")
    assert lines[start + 1].startswith("  a       word word")
    assert lines[start + 2].startswith("          word word")
    assert "  longer  B" in lines
    assert "Experiments" not in page  # there are none
    assert page.count("python -m medlat.run") == 4


def test_the_programs_own_page() -> None:
    page = help_text([config_dir()])
    for name in ("ct_vae_sefa", "ct_dicom", "ct_phantom", "vae", "sefa", "tiny", "laptop", "paper", "chest_ct"):
        assert f"  {name} " in page
    assert "ct_base" not in page
    assert max(map(len, page.splitlines())) <= WIDTH


def test_what_is_run_says_so() -> None:
    page = " ".join(help_text([config_dir()]).split())
    assert page.count("a program that is run: take it from where you would take a program") == 3
    assert page.count("in an ONNX file, which holds no code") == 2

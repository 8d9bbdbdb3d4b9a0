"""What preparation says at its end: a line each with its count, and paths on the terminal alone."""

import logging

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.account import Line, account, account_of, add, refuse_damage, show_paths, warn
from medlat.data.image_store import Preparation, prepare
from medlat.data.modality import GREY
from medlat.data.source import Chunk, Damaged, Remark, Scan, Slice

DAMAGED = [Damaged("secret/a", "corrupt"), Damaged("secret/a", "corrupt"), Damaged("secret/b", "truncated")]
REMARKS = [Remark("secret/c", "without a label", False), Remark("secret/d", "counts as normal", True)]


class Found:
    """Two images, one file left out and one remarked on."""

    modality = GREY

    def scan(self, parallel_map):
        chunk = Chunk("p", ("secret/d", "secret/e"), {"position_mm": np.zeros(2)})
        return Scan([chunk], [DAMAGED[2]], {"not a picture": 1234}, REMARKS)

    def read(self, chunk):
        for item in chunk.items:
            yield Slice(np.eye(8, dtype=np.float32) * (item == "secret/d") * 255, (1.0, 1.0))


def test_each_kind_has_its_lines_most_first():
    scan = Scan(skipped={"hidden": 2, "listed twice": 7, "never": 0}, damaged=DAMAGED, remarks=REMARKS)
    assert account(scan) == [
        Line("damaged", 2, "corrupt"),
        Line("damaged", 1, "truncated"),
        Line("left out", 7, "listed twice"),
        Line("left out", 2, "hidden"),
        Line("left out", 1, "without a label"),
        Line("read", 1, "counts as normal"),
    ]


def test_copies_of_the_split_come_last():
    kept = {"account": [["left out", 7, "hidden"]]}
    copy = Line("copy", 3, "stands in a later part of the split too, pixel for pixel")
    assert account_of(kept, 3) == [Line("left out", 7, "hidden"), copy]
    assert account_of(kept, 0) == [Line("left out", 7, "hidden")]


def test_preparation_ends_with_the_table_and_keeps_no_path(tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO):
        prepare(Found(), Preparation(8, None, 0.5, "salt", 1, damaged_list=str(tmp_path / "list.txt")), tmp_path)
    assert caplog.messages == [
        "data: 2 images of 1 patient; a pixel is taken for 1 mm\n"
        "  damaged          1  truncated\n"
        "  left out     1,234  not a picture\n"
        "  left out         1  without a label\n"
        "  read             1  counts as normal\n"
        "  read             1  one value everywhere"
    ]
    blank = "an image without a file: one value everywhere"
    lines = ["secret/b: truncated", "secret/c: without a label", blank, "secret/d: counts as normal"]
    assert (tmp_path / "list.txt").read_text().splitlines() == lines
    assert capsys.readouterr().err.startswith(
        "1 damaged file:\n  secret/b: truncated\n1 file left out:\n  secret/c: without a label\n"
        f"2 files read with a remark:\n  {blank}\n  secret/d: counts as normal\n"
    )
    assert all(b"secret" not in (tmp_path / name).read_bytes() for name in ("slices.json", "index.npz", "images.npy"))


def test_of_many_paths_the_first_are_shown(capsys):
    show_paths(Scan(remarks=[Remark(f"p{i}", "x", True) for i in range(25)]), None, None, of=None)
    said = capsys.readouterr().err.splitlines()
    assert (len(said), said[-1]) == (22, "  ... 5 not shown; data.damaged_list=FILE lists all")


def test_a_list_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"^damaged_list: '.*' cannot be written \(FileNotFoundError\)$"):
        show_paths(Scan(damaged=DAMAGED), str(tmp_path / "no" / "list"), None, of=None)


def test_remarks_are_no_damage():
    scan = Scan(damaged=DAMAGED, remarks=REMARKS * 9)
    refuse_damage(scan, 7, 0.45, of=None)
    with pytest.raises(
        UserError, match=r"^max_damaged=0.4: 3 of 7 slices cannot be read \(2 x corrupt, 1 x truncated\)"
    ):
        refuse_damage(scan, 7, 0.4, of=None)


def test_what_was_met_while_reading_counts_each_image_and_remarks_on_a_file_once():
    scan = Scan(damaged=[DAMAGED[2]], remarks=[REMARKS[1]])
    add(scan, [*DAMAGED[:2], *REMARKS, REMARKS[0]])
    assert scan.damaged == [DAMAGED[2], *DAMAGED[:2]]
    assert scan.remarks == [REMARKS[1], REMARKS[0]]


def test_what_can_be_done_is_said_once_for_all_files_alike(caplog):
    odd = [Remark(f"secret/{i}", "no air", True, (i, 10.0 * i), "say what is air") for i in (1, 2)]
    left = [Remark("secret/m", "a mask", False, advice="exclude it")]
    warn(Scan(remarks=[*odd, *left, *REMARKS]))
    assert caplog.messages == [
        "2 of 5 files: no air (found 1 to 20); say what is air",
        "1 of 5 files left out: a mask; exclude it",
    ]

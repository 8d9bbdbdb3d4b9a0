"""The file of answers: nothing is lost, no half line stays, and no other study writes there."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from medlat.core.errors import UserError
from medlat.explore.reading.answers import Answers, read_answers, reader_code, truth_file

TRUTH = {
    "questions": {
        "useful": {"ask": "?", "choices": ["1", "2"]},
        "what_changed": {"ask": "?", "choices": []},
    },
    "cases": {str(number): {} for number in range(2000)},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.csv"


def test_a_line_a_case(path):
    with Answers(path, TRUTH) as answers:
        answers.add("A", 3, {"useful": "2", "what_changed": ' =1+1, "so"\n two '})
        assert path.read_text().endswith('\nA,3,2,"\'=1+1, ""so"" two"\n'), "on the disk before the file is closed"
        answers.add("A", 3, {"useful": "1"})
        answers.add("007", 0, {"useful": "1"})
    assert read_answers(path, TRUTH) == [
        {"reader": "A", "case": "3", "useful": "2", "what_changed": '=1+1, "so" two'},
        {"reader": "007", "case": "0", "useful": "1", "what_changed": ""},
    ]
    with Answers(path, TRUTH) as again:
        assert again.done == {"A": {3}, "007": {0}}
    assert json.loads(truth_file(path).read_text()) == TRUTH


def test_no_answer_steers_a_terminal_or_is_lost_by_its_letters(path):
    with Answers(path, TRUTH) as answers:
        answers.add("A", 1, {"what_changed": "\x1b[2J\x00 \ud800 Größe \u202e"})
    assert path.read_text().splitlines()[1] == r"A,1,,\x1b[2J\x00 \ud800 Größe \u202e"


@pytest.mark.parametrize(
    "left", [b"", b"rea", b"reader,case,useful,what_changed\n", b"reader,case,useful,what_changed\nA,"]
)
def test_what_a_crash_left_of_a_line_goes(path, left):
    with Answers(path, TRUTH):
        pass
    path.write_bytes(left)
    with Answers(path, TRUTH) as answers:
        assert answers.done == {}
        answers.add("A", 1, {"useful": "1"})
    assert path.read_bytes() == b"reader,case,useful,what_changed\nA,1,1,\n"


def test_a_half_line_behind_whole_ones_goes(path):
    with Answers(path, TRUTH) as answers:
        answers.add("A", 1, {"useful": "1"})
    with path.open("a") as file:
        file.write('B,2,"1')
    assert len(read_answers(path, TRUTH)) == 1, "and is not read while it is there"
    with Answers(path, TRUTH) as answers:
        assert answers.done == {"A": {1}}
    assert path.read_text().endswith("\nA,1,1,\n")


KILLED = """
import json, sys
from pathlib import Path
from medlat.explore.reading.answers import Answers
with Answers(Path(sys.argv[1]), json.loads(sys.argv[2])) as answers:
    for case in range(2000):
        answers.add("A", case, {"useful": "1", "what_changed": "x" * 300})
        print(case, flush=True)
"""


def test_a_kill_loses_nothing_that_was_answered(path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), json.dumps(TRUTH)], stdout=subprocess.PIPE)
    for _ in range(20):
        said = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    said = max([said, *map(int, process.communicate()[0].split())])
    with Answers(path, TRUTH) as answers:
        assert answers.done["A"] >= set(range(said + 1))
    assert all(len(row["what_changed"]) == 300 for row in read_answers(path, TRUTH))


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    with Answers(path, TRUTH) as answers:
        answers.add("A", 1, {"useful": "1"})
        before, write = path.read_bytes(), os.write
        monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:3]))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            answers.add("A", 2, {"useful": "1"})
        assert path.read_bytes() == before
        assert answers.done == {"A": {1}}, "so that it is asked again"


def test_readers_at_once(path):
    with Answers(path, TRUTH) as answers:

        def read(reader):
            for case in range(40):
                answers.add(reader, case, {"useful": "1", "what_changed": reader * 200})

        threads = [threading.Thread(target=read, args=(reader,)) for reader in "ABCD"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    rows = read_answers(path, TRUTH)
    assert len(rows) == 160
    assert all(row["what_changed"] == row["reader"] * 200 for row in rows)


def test_another_process_is_refused(path):
    with Answers(path, TRUTH), pytest.raises(UserError, match=r"study\.csv: another study writes there"):
        Answers(path, TRUTH).__enter__()
    with Answers(path, TRUTH):
        pass


def test_answers_to_another_study_are_not_mixed(path):
    other = TRUTH | {"cases": {"0": {}}}
    with Answers(path, TRUTH):
        pass
    with Answers(path, other) as answers:  # nobody has answered yet
        answers.add("A", 0, {"useful": "1"})
    with pytest.raises(UserError, match=r"study\.truth\.json beside it tells the cases of another study"):
        Answers(path, TRUTH).__enter__()
    assert json.loads(truth_file(path).read_text()) == other
    kept = path.rename(path.with_name("kept.csv"))
    with pytest.raises(UserError, match="another study"):
        Answers(path, TRUTH).__enter__()
    with pytest.raises(UserError, match=r"kept\.truth\.json is not beside it"):
        Answers(kept, TRUTH).__enter__()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the answers of a reader study"),
        ("a,b\n", "its columns are a, b; expected reader, case, useful, what_changed"),
        ("reader,case,useful,what_changed\nA,1\n", "not the answers"),
        ("reader,case,useful,what_changed\nA,2000,1,\n", "line 2: case=2000: the study has no such case"),
        ("reader,case,useful,what_changed\nA,1,3,\n", "line 2: useful=3: cannot be said; choose from 1, 2"),
        ("reader,case,useful,what_changed\nA,1,1,\na,1,2,\n", "line 3: reader A answers case 1 twice"),
        ("reader,case,useful,what_changed\nAnna Muster,1,1,\n", "reader: expected a number or a code"),
    ],
)
def test_what_are_no_answers(path, text, words):
    path.write_text(text)
    with pytest.raises(UserError) as told:
        read_answers(path, TRUTH)
    assert words in str(told.value)


def test_a_reader_is_a_code():
    assert reader_code(" r-07 ") == "R-07"
    for typed in ("", "a b", "a,b", "<b>", "x" * 17, 7, None, "Ä"):
        with pytest.raises(UserError, match="no name"):
            reader_code(typed)

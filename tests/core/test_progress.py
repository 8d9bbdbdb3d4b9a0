"""A step that works for long without a word says that it lives; one that speaks is left alone."""

import logging
import threading
import time

from medlat.core.progress import at_work

SILENCE_S = 0.2
log = logging.getLogger("medlat.tests")


def test_a_silent_step_says_that_it_is_at_work(caplog):
    with caplog.at_level("INFO"), at_work("audit", SILENCE_S):
        time.sleep(3.5 * SILENCE_S)
    assert 2 <= len(caplog.messages) <= 4
    assert all(line.startswith("audit: at work for ") for line in caplog.messages)


def test_a_step_that_speaks_is_left_alone(caplog):
    with caplog.at_level("INFO"), at_work("audit", SILENCE_S):
        for _ in range(8):
            time.sleep(SILENCE_S / 4)
            log.info("so far")
    assert set(caplog.messages) == {"so far"}


def test_of_steps_within_each_other_the_innermost_speaks(caplog):
    with caplog.at_level("INFO"), at_work("outer", SILENCE_S):
        with at_work("inner", SILENCE_S):
            time.sleep(2.5 * SILENCE_S)
        assert {line.partition(":")[0] for line in caplog.messages} == {"inner"}
        time.sleep(2.5 * SILENCE_S)
    assert caplog.messages[-1].startswith("outer: ")


def test_nothing_stays_behind_even_after_an_error(caplog):
    before = threading.active_count(), list(logging.getLogger().handlers)
    try:
        with at_work("audit", SILENCE_S):
            raise ValueError
    except ValueError:
        pass
    assert (threading.active_count(), list(logging.getLogger().handlers)) == before
    with caplog.at_level("INFO"):
        time.sleep(2 * SILENCE_S)
    assert caplog.messages == []

"""A process that reads one input: it has so much time and memory, and can be ended."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import zlib

import pytest
from PIL import Image

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.images import read_open_image
from medgemma_app.inputs.sandbox import Ended, Sandbox, TooMuch

MEMORY = 100_000_000


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(MEMORY, ("numpy", "PIL.Image"))
    yield sandbox
    sandbox.end()


def length(raw, factor):
    return factor * len(raw), os.getpid()


def fails(raw):
    raise OptionError("too long")


def quotes(raw):
    raise KeyError(raw)


def grows(raw):
    kept.append(bytearray(MEMORY * 4 // 5))
    return os.getpid()


kept = []


def fills(raw):
    return len(bytearray(4 * MEMORY))


def sleeps(raw):
    time.sleep(60)


def width(raw):
    return read_open_image(io.BytesIO(raw), "the scan").image.width


def test_a_function_runs_in_another_process_which_is_kept(sandbox):
    value, process = sandbox.call(length, b"abc", 2, seconds=30)
    assert (value, process != os.getpid()) == (6, True)
    assert sandbox.call(length, bytearray(1_000_000), 1, seconds=30) == (1_000_000, process)


def test_a_process_that_has_grown_is_replaced(sandbox):
    grown = sandbox.call(grows, b"", seconds=30)
    assert sandbox.call(length, b"", 1, seconds=30)[1] != grown


def test_its_errors_arrive_as_they_are_and_unexpected_ones_without_their_words(sandbox):
    with pytest.raises(OptionError, match="too long"):
        sandbox.call(fails, b"", seconds=30)
    with pytest.raises(RuntimeError, match=r"reading failed \(KeyError\)") as unexpected:
        sandbox.call(quotes, b"Whittlethorpe", seconds=30)
    assert "Whittlethorpe" not in str(unexpected.value)


def test_what_takes_too_long_is_ended(sandbox):
    with pytest.raises(TooMuch, match=r"more than 0\.2 s"):
        sandbox.call(sleeps, b"", seconds=0.2)
    assert sandbox.call(length, b"abc", 2, seconds=30)[0] == 6


@pytest.mark.skipif(sys.platform != "linux", reason="the operating system does not bound a process's memory")
def test_what_takes_too_much_memory_is_refused_also_inside_a_decoder(sandbox):
    with pytest.raises(TooMuch, match="more memory"):
        sandbox.call(fills, b"", seconds=30)
    file = io.BytesIO()
    Image.linear_gradient("L").resize((9000, 9000)).convert("RGB").save(file, "JPEG")
    with pytest.raises(TooMuch, match="more memory"):
        sandbox.call(width, file.getvalue(), seconds=30)
    with pytest.raises(TooMuch, match="more memory"):
        sandbox.call(length, bytes(3 * MEMORY), 1, seconds=30)
    assert sandbox.call(length, b"abc", 2, seconds=30)[0] == 6


def half_a_dicom_file():
    from dicoms import made  # not at the top: the process imports this file too, and its memory is bounded

    file = io.BytesIO()
    made().save_as(file, enforce_file_format=True)
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize("damaged", [lambda: b"\x89PNG\r\n\x1a\n" + zlib.compress(b"x"), half_a_dicom_file], ids=["PNG", "DICOM"])
def test_what_a_decoder_reports_counts_as_too_much_unless_it_is_the_last_try(sandbox, damaged):
    for last_try, kind in ((False, TooMuch), (True, InputError)):
        with pytest.raises(InputError) as caught:
            sandbox.call(width, damaged(), seconds=30, last_try=last_try)
        assert isinstance(caught.value, TooMuch) == (kind is TooMuch)


def test_a_call_is_ended_from_another_thread(sandbox):
    timer = threading.Timer(0.2, sandbox.end)
    timer.start()
    with pytest.raises(Ended):
        sandbox.call(sleeps, b"", seconds=30)

"""TensorBoard's writing thread: its errors are raised where the next event is written, and told once."""

from __future__ import annotations

import threading

import pytest
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lmsearch.engine.events import errors_told_once


class Full:
    """A file that takes nothing."""

    def write(self, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_an_error_of_the_writing_thread_is_raised_and_not_printed(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    with errors_told_once():
        writer = EventFileWriter(str(tmp_path))
        writer.flush()
        writer._async_writer._writer._writer = Full()
        with pytest.raises(OSError, match="No space left"):
            writer._async_writer.write(b"event")
            writer.flush()
    assert not capsys.readouterr().err


def test_errors_of_other_threads_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    with errors_told_once():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert isinstance(told[0], ZeroDivisionError)

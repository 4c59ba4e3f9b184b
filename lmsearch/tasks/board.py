"""lmsearch board: TensorBoard over a run or a folder of runs, until it is interrupted."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.errors import ConfigError
from lmsearch.settings.looking import Board

EVENTS = "events.out.tfevents.*"


def run(cfg: DictConfig) -> int:
    """Serve the events, say where, and wait for Ctrl-C."""
    settings = settings_of(Board, cfg)
    folder = Path(settings.run_dir or "runs")
    check_events(folder)
    url = serve(folder, host=settings.host, port=settings.port)
    print(f"TensorBoard over {folder}: {url}   Ctrl-C ends it", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    return 0


def check_events(folder: Path) -> None:
    """Raise ConfigError where a folder holds nothing that TensorBoard could show."""
    if not folder.is_dir():
        raise ConfigError(f"run_dir={str(folder)!r} is no folder; expected a run, or a folder of runs")
    if next(folder.rglob(EVENTS), None) is None:
        raise ConfigError(
            f"run_dir={str(folder)!r} holds no TensorBoard events; lmsearch search and retrain write them to <run_dir>/tb"
        )


def serve(folder: Path, *, host: str, port: int) -> str:
    """Start TensorBoard in a thread and return its address; raise ConfigError where it cannot listen there."""
    from tensorboard import program  # slow to import
    from tensorboard.program import TensorBoardServerException

    for name in ("werkzeug", "tensorboard"):  # a line per request
        logging.getLogger(name).setLevel(logging.ERROR)
    board = program.TensorBoard()
    board.configure(argv=["tensorboard"], logdir=str(folder), host=host, port=port, reload_interval=5, load_fast="false")
    try:
        return str(board.launch())
    except TensorBoardServerException as error:
        raise ConfigError(f"host={host} port={port}: {str(error).splitlines()[0]}; port=0 takes any free one") from error

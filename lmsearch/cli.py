"""The command `lmsearch <task> [key=value ...]`: pick a task, put its configuration together, run it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from lmsearch import __version__
from lmsearch.completion import completion
from lmsearch.config_help import task_help
from lmsearch.config_presets import split_overrides
from lmsearch.context import QUIET, VERBOSE, setting
from lmsearch.errors import ConfigError, LmsearchError, did_you_mean
from lmsearch.files import told_of
from lmsearch.interrupts import INTERRUPTED, Stopped, answering_signals
from lmsearch.paths import data_dir
from lmsearch.process import set_up_logging, tune_process
from lmsearch.streams import let_go_of_output, output_closed, say
from lmsearch.words import as_text, dotted

if TYPE_CHECKING:
    from omegaconf import DictConfig

TASKS = {  # name: (module with run(cfg), one line for --help)
    "search": ("lmsearch.tasks.search", "train a supernet over scan directions and write the genotype that it prefers"),
    "derive": ("lmsearch.tasks.derive", "choose directions again from a trained search: another keep, or what several agree on"),
    "retrain": ("lmsearch.tasks.retrain", "train the network of a genotype from scratch"),
    "evaluate": ("lmsearch.tasks.evaluate", "measure a trained network on the test images of its data, or of another folder"),
    "predict": ("lmsearch.tasks.predict", "answer an image or a folder of images with a trained network"),
    "compare": ("lmsearch.tasks.compare", "train a genotype beside random and hand-made ones, and say whether it is better"),
    "audit": ("lmsearch.tasks.audit", "say whether a search is worth its cost on this data, and how sure that is"),
    "complexity": ("lmsearch.tasks.complexity", "count parameters, MACs and training memory, per layer and direction"),
    "report": ("lmsearch.tasks.report", "write one page on what a run found, or on several runs side by side"),
    "doctor": ("lmsearch.tasks.doctor", "show versions, the machine, which scan backends run here and how to enable the others"),
    "bench": ("lmsearch.tasks.bench", "check and time the scan, the mixer and a training step beside their peers"),
    "sweep": ("lmsearch.tasks.sweep", "try values of any configuration keys of a task, and export the best configuration"),
    "convert": ("lmsearch.tasks.convert", "turn a released LocalMamba checkpoint into a run directory of ours, or back"),
    "shapes": ("lmsearch.tasks.shapes", "write a small data set with masks and objects, made on the spot"),
    "show": ("lmsearch.tasks.show", "draw scan paths, choices, runs and what networks look at, as text or into a file"),
    "status": ("lmsearch.tasks.status", "list the runs in a folder: running, finished, stopped or failed, and what they found"),
    "clean": ("lmsearch.tasks.clean", "list files of runs that nobody needs any more; delete=true deletes them"),
    "export": ("lmsearch.tasks.export", "write a trained network as ONNX or torch.export file that was compared with it"),
    "latency": ("lmsearch.tasks.latency", "time trained networks in PyTorch, compiled and exported, with their accuracy"),
    "board": ("lmsearch.tasks.board", "start TensorBoard over a run or a folder of runs"),
}
IN_SEVERAL = ("search", "retrain", "evaluate", "compare")  # tasks that torchrun may start in several processes
MEMORY = {"batch_size": "lower", "micro_batch": "set or lower", "model.grad_checkpointing": "set to true"}  # what takes less
COMPLETION = "completion"  # no task: it has no keys, and a shell that starts must not wait for it
HELP = ("--help", "-h")
FLAGS = (*HELP, "--cfg", "--version")
BAD_INPUT = 2
PIPE_CLOSED = 141  # as shells report a process that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, what the task returns, 2 for bad input, 75 or 130 when stopped."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _main(words)
        if code:  # it says why the command ended, whoever still reads
            let_go_of_output()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not output_closed():
            raise
        return PIPE_CLOSED
    except LmsearchError as error:
        say(f"lmsearch: error: {error}")
        return error.exit_code
    except OSError as error:
        if (line := told_of(error)) is None:
            raise
        say(f"lmsearch: error: {line}")
        return BAD_INPUT
    except KeyboardInterrupt:
        say("\nlmsearch: interrupted")
        return INTERRUPTED


def _main(words: list[str]) -> int:
    """Answer --help, --version and --cfg, or run the task."""
    flags = [word for word in words if word.startswith("-")]
    words = [word for word in words if not word.startswith("-")]
    for flag in flags:
        if flag not in FLAGS:
            raise ConfigError(f"unknown option {flag!r}; accepted: {', '.join(FLAGS)}, and key=value words")
    if "--version" in flags:
        print(f"lmsearch {__version__}")
        return 0
    if not words:
        print(overview())
        return 0 if flags else BAD_INPUT
    task, *overrides = words
    if task == COMPLETION and not overrides:
        print(completion([*TASKS], conf_dir=data_dir("conf")), end="")
        return 0
    if task not in TASKS:
        raise ConfigError(f"{task!r} is not a task{did_you_mean(task, TASKS)}")
    if set(flags) & set(HELP):
        chosen, _ = split_overrides(overrides, conf_dir=data_dir("conf"))
        print(task_help(task, TASKS[task][1], conf_dir=data_dir("conf"), chosen=chosen))
        return 0
    tune_process()  # before PyTorch is imported
    from omegaconf import OmegaConf  # slow to import, with Hydra; --help needs neither

    from lmsearch.tasks.parts.known import configure

    cfg, lines = configure(task, overrides)
    if task in IN_SEVERAL and "RANK" in os.environ:  # torchrun's
        from lmsearch.tasks.parts.shared_batch import share_batch

        lines += share_batch(cfg, overrides)
    if "--cfg" in flags:
        print(OmegaConf.to_yaml(cfg, resolve=True), end="")
        return 0
    if not cfg.get("quiet", False) and os.environ.get("RANK", "0") == "0":
        for line in lines:
            print(line)
    return _run(task, cfg)


def _run(task: str, cfg: DictConfig) -> int:
    """Import the task, which imports PyTorch, and run it."""
    quiet, verbose = bool(cfg.get("quiet", False)), bool(cfg.get("verbose", False))
    if quiet and verbose:
        raise ConfigError("quiet=true and verbose=true contradict each other; give one of them")
    set_up_logging(quiet=quiet, verbose=verbose)
    from omegaconf import OmegaConf

    from lmsearch.data.fetching import killed_worker  # PyTorch is needed from here on
    from lmsearch.engine.devices import float32_convolutions
    from lmsearch.engine.events import errors_told_once
    from lmsearch.engine.memory import telling_want_of_memory
    from lmsearch.engine.processes import refuse_several
    from lmsearch.engine.threads import using_threads

    if task not in IN_SEVERAL:
        refuse_several(f"lmsearch {task}")
    try:
        module = importlib.import_module(TASKS[task][0])
        with (
            setting(QUIET, quiet),
            setting(VERBOSE, verbose),
            answering_signals(),
            using_threads(OmegaConf.select(cfg, "threads")),
            float32_convolutions(),
            telling_want_of_memory(memory_keys(cfg)),
            killed_worker(),
            errors_told_once(),
        ):
            return module.run(cfg) or 0
    except LmsearchError:
        if verbose:
            traceback.print_exc()
        raise
    except KeyboardInterrupt as error:
        code = error.code if isinstance(error, Stopped) else INTERRUPTED
        what = f"stopped by {error.name}" if isinstance(error, Stopped) and code != INTERRUPTED else "interrupted"
        how = "give the same command again"
        kept = "the last checkpoint" if "resume" in cfg else "the trials that are done" if "trials" in cfg else None
        if kept is not None:
            how += f", without overwrite=true, to continue from {kept}"
        say(f"\nlmsearch: {what}; {how}")
        return code


def memory_keys(cfg: DictConfig) -> str:
    """Return which keys of a configuration to set where memory is short, and what they are now."""
    from omegaconf import OmegaConf

    known = dict(dotted(cast("dict[str, object]", OmegaConf.to_container(cfg))))
    said = [
        f"{what} {key}" + (f" (now {as_text(known[key])})" if known[key] else "") for key, what in MEMORY.items() if key in known
    ]
    return ", ".join(said) or "give it smaller input, or a machine with more"


def overview() -> str:
    """Return the text of `lmsearch --help`: one line per task."""
    tasks = [f"  {name:11} {summary}" for name, (_, summary) in TASKS.items()]
    return "\n".join(
        [
            f"lmsearch {__version__}: neural architecture search over the scan directions of vision state-space models",
            "",
            "usage: lmsearch <task> [key=value ...]",
            "       lmsearch <task> --help    presets and keys of a task, with units",
            "       lmsearch <task> --cfg     the resolved configuration, without running it",
            '       lmsearch completion       bash: eval "$(lmsearch completion)" completes tasks, presets and keys',
            "",
            "tasks:",
            *tasks,
        ]
    )

"""Completion of the command line in bash: a script with every verb, preset, key and accepted word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lmsearch.config_presets import choices_of, preset_keys, task_keys, task_presets
from lmsearch.settings.catalogue import declared_anywhere

SCRIPT = """\
_lmsearch() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" words
    local word="${{line##* }}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{tasks} --help --version" -- "$word"))
        return
    fi
    case "$word" in
{values}
        *=*) COMPREPLY=($(compgen -f -- "${{word#*=}}")); compopt -o filenames 2>/dev/null; return ;;
    esac
    if [ -n "$words" ]; then  # bash has split the word at its "="
        COMPREPLY=($(compgen -W "$words" -- "${{word#*=}}"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{keys}
    esac
    COMPREPLY=($(compgen -W "$words --help --cfg" -- "$word"))
    case "${{COMPREPLY[*]}}" in *=*) compopt -o nospace 2>/dev/null ;; esac
}}
complete -F _lmsearch lmsearch
"""


def completion(tasks: Sequence[str], *, conf_dir: Path) -> str:
    """Return the script, which bash evaluates; zsh does after bashcompinit."""
    groups = sorted({group for task in tasks for group in task_presets(task, conf_dir)})
    choices = {group: choices_of(group, conf_dir=conf_dir) for group in groups}
    words = {name: tuple(key.words) for name, key in declared_anywhere().items() if key.words}
    switches = {name: ("true", "false") for name, key in declared_anywhere().items() if key.kind == "bool"}
    values = [f'        {name}=*) words="{" ".join(found)}" ;;' for name, found in sorted((words | switches | choices).items())]
    keys = [f'        {task}) words="{" ".join(keys_of(task, conf_dir))}" ;;' for task in tasks]
    return SCRIPT.format(tasks=" ".join(tasks), values="\n".join(values), keys="\n".join(keys))


def keys_of(task: str, conf_dir: Path) -> Iterator[str]:
    """Yield the presets and keys of a task, and the keys that any choice of its presets brings, each with "="."""
    names = dict.fromkeys([*task_presets(task, conf_dir), *task_keys(task, conf_dir)])
    for group in task_presets(task, conf_dir):
        for choice in choices_of(group, conf_dir=conf_dir):
            if group != "optim" or choice.startswith("search_digits"):  # all bring the same keys
                names |= dict.fromkeys(preset_keys(group, choice, conf_dir))
    yield from (f"{name}=" for name in names)

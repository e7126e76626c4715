"""Every way to fail, told in one paragraph with an exit code; no traceback unless --debug asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from potemkin.core.explain import first_line
from potemkin.core.memory import out_of_memory
from potemkin.errors import PotemkinError, TrainingError

PASSED, GATE_FAILED, USAGE, FAILED = 0, 1, 2, 4

_NEEDED = {
    "threat": "Say what the adversary may do, for example --threat 'Linf(8/255)'; `potemkin list sets` shows all.",
    "model": "Name the model: digits-cnn, my_models:resnet20, a .pt2 file, or the folder of a training run.",
    "data": "Name the data: digits, a .npz file, an idx images file, a folder of images, .tar shards, a .parquet file, "
    "or my_data:load.",
    "run": "Name the folder that `potemkin audit --out` wrote.",
    "a": "Name two folders that `potemkin audit --out` wrote.",
    "b": "Name two folders that `potemkin audit --out` wrote.",
}
_WANTED = {"int": "a whole number", "float": "a number", "bool": "no value: it is a switch"}


@dataclass(frozen=True)
class Failure:
    """What went wrong: the class of the error, a paragraph, and the exit code."""

    type: str
    message: str
    exit_code: int


def explain(error: BaseException) -> Failure:
    """The paragraph and the exit code for any exception that reaches the command line."""
    kind = type(error).__name__
    if isinstance(error, CycloptsError):
        return Failure("UsageError", _usage(error), USAGE)
    if out_of_memory(error) and not isinstance(error, TrainingError):  # which says itself what to lower
        return Failure("OutOfMemory", f"The memory is full ({kind}: {first_line(error)}). {_LESS}", FAILED)
    if isinstance(error, PotemkinError):
        return Failure(kind, str(error), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure("Interrupted", "Interrupted: nothing was written.", FAILED)
    if isinstance(error, ImportError):
        return Failure(
            kind, f"{first_line(error)}. A package is missing or damaged: `potemkin doctor` says which.", FAILED
        )
    return Failure(kind, f"Something unexpected happened: {kind}: {first_line(error)}. {_REPORT}", FAILED)


_LESS = (
    "Use smaller --rows of an audit (the default is 128, any multiple of 8 will do), a smaller --batch-size of a "
    "training, a smaller model, or another --device."
)
_REPORT = (
    "Nothing half-written was left behind. This is a fault in potemkin, or in the model's or the data's own code: run "
    "the same command with --debug and report what it shows."
)


def _usage(error: CycloptsError) -> str:
    verb = " ".join(error.command_chain or ())
    if isinstance(error, UnusedCliTokensError):
        return f"{_extra(error, verb)} {_help(verb)}"
    if isinstance(error, UnknownOptionError):
        return f"{error} {_help(verb)}"
    advice = ""
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name.lstrip("-").lower()
        if not error.tokens_so_far and name in _NEEDED:
            shown = name.upper() if error.argument.field_info.is_positional else f"--{name}"
            return f"`potemkin {verb}` needs {shown}. {_NEEDED[name]} {_help(verb)}"
    if isinstance(error, CoercionError) and error.target_type is not None:
        wanted = _WANTED.get(getattr(error.target_type, "__name__", ""))
        advice = f" It takes {wanted}." if wanted else ""
    return f"{error}{advice} {_help(verb)}"


def _extra(error: UnusedCliTokensError, verb: str) -> str:
    listed = " ".join(repr(token) for token in error.unused_tokens or ())
    return f"Not understood: {listed}. `potemkin {verb}` takes no more words; quote what holds spaces or brackets."


def _help(verb: str) -> str:
    return f"`{' '.join(('potemkin', *verb.split()))} --help` shows what it takes."

"""Every error that potemkin raises on purpose.

    PotemkinError
    ├── ConfigError            a name, argument or notation that does not exist or is out of range   exit code 2
    ├── InputError             what the user brought cannot be used                                  exit code 3
    │   ├── DataError          data: shape, labels, NaN, outside the box
    │   ├── ModelError         model: cannot be loaded, wrong outputs, weights do not fit
    │   └── BundleError        a run folder: missing, truncated, other schema version
    ├── TrainingError          a training run could not go on; what it has is kept                   exit code 4
    └── EvaluationError        the evaluation itself failed                                          exit code 4
        ├── AccessError        more was asked of the model than the threat model allows
        ├── ConformanceError   an attack does not do what an attack must; lists every failed check
        └── ModelChangedError  parameters or buffers moved while the model was a guest

Each message names the value, what is allowed and the next thing to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PotemkinError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 4


class ConfigError(PotemkinError):
    """A name, argument or notation is wrong."""

    exit_code = 2


class InputError(PotemkinError):
    """What the user brought cannot be used."""

    exit_code = 3


class DataError(InputError):
    """The data cannot be used as they are."""


class ModelError(InputError):
    """The model cannot be loaded or does not answer as a classifier."""


class BundleError(InputError):
    """A run folder is missing, damaged, or of another schema version."""


class TrainingError(PotemkinError):
    """A training run could not go on: disk, memory, numbers; what it has written is intact."""


class EvaluationError(PotemkinError):
    """The evaluation itself failed."""


class AccessError(EvaluationError):
    """More was asked of the model than the threat model's access allows."""


class ConformanceError(EvaluationError):
    """An attack failed `check_attack`; the message lists every failed check, what was expected and what was found."""


class ModelChangedError(EvaluationError):
    """The model's parameters or buffers changed while it was a guest."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest allowed name, or the empty string.

    >>> suggest("pdg", ["pgd", "fgsm"])
    " Did you mean 'pgd'?"
    """
    by_lower = {item.lower(): item for item in allowed}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""

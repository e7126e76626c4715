"""The user's own Python: "module:function" or "path/to/file.py:function", imported and called."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from potemkin.errors import ModelError, PotemkinError, suggest
from potemkin.models.classifier import Classifier
from potemkin.models.explain import first_line

_FORM = "Give module:function, such as my_models:resnet20, or path/to/my_models.py:resnet20."


def build(spec: str) -> nn.Module | Classifier:
    """Import the module, call the function without arguments, and return the network (or Classifier) it builds.

    The working directory can be imported from while this lasts, as with `python -m`; for a file, its folder too. What
    runs is the user's own code, with all it may do. A name that holds a network, not a function, is taken as it is.

    Raises: ModelError for a module or function that is not there, that raises, or that returns something else.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise ModelError(f"The model '{spec}' names no function. {_FORM}")
    folders = [str(Path.cwd())] + ([str(Path(where).resolve().parent)] if where.endswith(".py") else [])
    with _importable(folders):
        module = _from_file(Path(where), spec) if where.endswith(".py") else _from_name(where, spec)
        maker = getattr(module, name, None)
        if maker is None:
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ModelError(f"The module '{where}' has no function '{name}'.{suggest(name, names)} {_FORM}")
        made = maker if isinstance(maker, nn.Module | Classifier) else _called(maker, spec)
    if not isinstance(made, nn.Module | Classifier):
        advice = " Return the instance, not the class." if isinstance(made, type) else ""
        raise ModelError(
            f"{spec} returned {type(made).__module__}.{type(made).__name__}; a torch.nn.Module or a "
            f"potemkin.Classifier is needed.{advice}"
        )
    return made


def _from_name(where: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(where)
    except PotemkinError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            here = sorted(path.stem for path in Path.cwd().glob("*.py"))
            raise ModelError(
                f"There is no module '{where}' (for the model '{spec}'), neither installed nor in the working "
                f"directory {Path.cwd()}.{suggest(where, here)} {_FORM}"
            ) from error
        raise _while_importing(where, error) from error
    except (Exception, SystemExit) as error:
        raise _while_importing(where, error) from error


def _from_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"There is no file '{path}' (for the model '{spec}'): check the path.")
    name = f"potemkin_user_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ModelError(f"The file '{path}' cannot be imported as Python.")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up while it is being executed
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, PotemkinError):
            raise
        raise _while_importing(str(path), error) from error
    return module


def _called(maker: object, spec: str) -> object:
    if not callable(maker):
        raise ModelError(f"{spec} is {type(maker).__name__}, not a function that returns a network. {_FORM}")
    _check_no_arguments(maker, spec)
    try:
        return maker()
    except PotemkinError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec} failed while it built the model: {type(error).__name__}: {first_line(error)}. It is called "
            "without arguments, in the working directory; try it in Python first."
        ) from error


def _check_no_arguments(maker: Callable[..., object], spec: str) -> None:
    try:
        signature = inspect.signature(maker)
    except ValueError:
        return
    try:
        signature.bind()
    except TypeError as error:
        raise ModelError(
            f"{spec}{signature} is called without arguments, but needs some ({first_line(error)}): write a function "
            "without arguments that calls it."
        ) from error


def _while_importing(where: str, error: BaseException) -> ModelError:
    return ModelError(
        f"The module '{where}' failed while it was imported: {type(error).__name__}: {first_line(error)}. Try "
        "importing it in Python first."
    )


@contextmanager
def _importable(folders: list[str]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before

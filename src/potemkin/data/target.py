"""Calling the user's `module:function` or `path.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from potemkin.errors import DataError, PotemkinError, suggest


def call(spec: str) -> object:
    """What the function named by `spec` returns, called without arguments; every failure is a DataError."""
    where, _, function_name = spec.rpartition(":")
    if "://" in spec:
        raise DataError(f"{spec!r} is an address: nothing is downloaded. Fetch the file and give its path.")
    if not where or not function_name.isidentifier():
        raise DataError(f"{spec!r} names no function: expected 'module:function' or 'path.py:function'.")
    before = [os.getcwd()]
    if where.endswith(".py"):
        before.insert(0, str(Path(where).resolve().parent))  # so that it may import its neighbours
    sys.path[:0] = before
    try:
        return _call(_module(where, spec), function_name, spec)
    finally:
        for folder in before:  # by value, not by place: the imported code may have put folders of its own in front
            if folder in sys.path:
                sys.path.remove(folder)


def _module(where: str, spec: str) -> ModuleType:
    try:
        return _from_path(Path(where), spec) if where.endswith(".py") else importlib.import_module(where)
    except PotemkinError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            raise DataError(
                f"Cannot find the module {where!r} of {spec!r}: it is looked for in the current folder "
                f"({os.getcwd()}) and among the installed packages. Go to its folder, or give 'path.py:function'."
            ) from error
        raise DataError(f"Importing {where!r} of {spec!r} failed: {error}. Install what it needs.") from error
    except (Exception, SystemExit) as error:
        raise DataError(f"Importing {where!r} of {spec!r} failed: {_told(error)}.") from error


def _from_path(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r} for {spec!r}.")
    module_spec = importlib.util.spec_from_file_location(f"_potemkin_data_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise DataError(f"{str(path)!r} cannot be imported as Python.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and workers of a DataLoader look their module up
    module_spec.loader.exec_module(module)
    return module


def _call(module: ModuleType, name: str, spec: str) -> object:
    function = getattr(module, name, None)
    if function is None:
        public = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise DataError(f"{module.__name__!r} has no function {name!r} ({spec!r}).{suggest(name, public)}")
    if not callable(function):
        raise DataError(f"{spec!r} is a {type(function).__name__}, expected a function without arguments.")
    try:
        returned: object = function()
    except PotemkinError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{spec!r} failed: {_told(error)}. It is called without arguments.") from error
    if returned is None:
        raise DataError(f"{spec!r} returned None, expected (inputs, labels) or a data source: is a return missing?")
    if isinstance(returned, (str, bytes, os.PathLike)):
        raise DataError(f"{spec!r} returned {returned!r}, expected (inputs, labels) or a data source.")
    return returned


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"

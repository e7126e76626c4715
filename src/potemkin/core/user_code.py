"""The user's own Python: "module:function" or "path/to/file.py:function", imported and called without arguments."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from potemkin.core.explain import first_line
from potemkin.errors import InputError, PotemkinError, suggest


@dataclass(frozen=True)
class UserCode:
    """What a user named, and in which words to say that it cannot be used.

    spec: "module:function" or "path.py:function".  role: what it is for, "model" or "data".
    error: the exception that is raised.  form: what may be given instead, one sentence.
    """

    spec: str
    role: str
    error: type[InputError]
    form: str

    @contextmanager
    def named(self) -> Iterator[object]:
        """What the name stands for. While this lasts the working directory, and a file's own, can be imported from.

        What runs is the user's own code, with all it may do.
        Raises: `error` for a module or a name that is not there, and for an import that fails.
        """
        where, _, name = self.spec.rpartition(":")
        if not where or not name.isidentifier():
            raise self.error(f"The {self.role} '{self.spec}' names no function. {self.form}")
        folders = [str(Path(where).resolve().parent)] if where.endswith(".py") else []
        with _importable([*folders, str(Path.cwd())]):
            module = self._from_file(Path(where)) if where.endswith(".py") else self._from_name(where)
            found = getattr(module, name, None)
            if found is None:
                names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
                raise self.error(f"The module '{where}' has no function '{name}'.{suggest(name, names)} {self.form}")
            yield found

    def called(self, maker: object) -> object:
        """What the function returns; it is called without arguments."""
        if not callable(maker):
            raise self.error(f"{self.spec} is {type(maker).__name__}, not a function that returns the {self.role}.")
        try:
            inspect.signature(maker).bind()
        except ValueError:
            pass  # some built-in functions do not tell their signature
        except TypeError as error:
            raise self.error(
                f"{self.spec}{inspect.signature(maker)} is called without arguments, but needs some "
                f"({first_line(error)}): write a function without arguments that calls it."
            ) from error
        try:
            return maker()
        except PotemkinError:
            raise
        except (Exception, SystemExit) as error:
            raise self.error(
                f"{self.spec} failed while it built the {self.role}: {_told(error)}. It is called without arguments, "
                "in the working directory; try it in Python first."
            ) from error

    def _from_name(self, where: str) -> ModuleType:
        try:
            return importlib.import_module(where)
        except PotemkinError:
            raise
        except ModuleNotFoundError as error:
            if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
                here = sorted(path.stem for path in Path.cwd().glob("*.py"))
                raise self.error(
                    f"There is no module '{where}' (for the {self.role} '{self.spec}'), neither installed nor in the "
                    f"folder {Path.cwd()}.{suggest(where, here)} {self.form}"
                ) from error
            raise self._while_importing(where, error) from error
        except (Exception, SystemExit) as error:
            raise self._while_importing(where, error) from error

    def _from_file(self, path: Path) -> ModuleType:
        if not os.path.isfile(path):  # os.path: a name that no file can have is just not there, where Path raises
            raise self.error(f"There is no file '{path}' (for the {self.role} '{self.spec}'): check the path.")
        name = f"potemkin_user_{path.stem}"
        found = importlib.util.spec_from_file_location(name, path)
        if found is None or found.loader is None:
            raise self.error(f"The file '{path}' cannot be imported as Python.")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # dataclasses, and the workers of a DataLoader, look their module up
        try:
            found.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            if isinstance(error, PotemkinError):
                raise
            raise self._while_importing(str(path), error) from error
        return module

    def _while_importing(self, where: str, error: BaseException) -> InputError:
        return self.error(
            f"The module '{where}' failed while it was imported: {_told(error)}. Try importing it in Python first."
        )


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{place}"


@contextmanager
def _importable(folders: list[str]) -> Iterator[None]:
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in folders:  # by value, not by place: the imported code may have put folders of its own in front
            if folder in sys.path:
                sys.path.remove(folder)

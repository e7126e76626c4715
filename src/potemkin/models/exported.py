"""torch.export archives (.pt2), read without letting the file run anything.

What torch 2.13 does, read in its sources: `torch.export.load` unpickles the sample inputs (safely first, and again
*unsafely* if that fails), payloads marked `use_pickle`, custom and opaque constants; it evaluates the shape
expressions as Python (sympify), looks operators up as attributes of `torch`, imports modules named in the tree
specs, and `.module()` executes generated code that holds the file's own names and guards.

So an archive is never handed over as it came. It is rebuilt from the records that hold plain numbers and a graph whose
every string was checked; pickles, guards and metadata are left out, anything else is refused. Files of torch 2.7 and
before, and compiled packages (AOTInductor: machine code, no gradients), are refused too.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from potemkin.core.explain import first_line
from potemkin.errors import ModelError

HOW_TO_EXPORT = (
    "Export it so: program = torch.export.export(net.eval(), (example,), "
    "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)); torch.export.save(program, 'model.pt2')."
)

_MODEL = "models/model.json"
_TENSOR = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_CONFIG = re.compile(r"data/(weights/model_weights|constants/model_constants)_config\.json")
_WRITTEN_ANEW = re.compile(r"archive_format|archive_version|byteorder|\.data/\w+|data/sample_inputs/model\.pt")
_LEFT_OUT = re.compile(r"extra/.*")

_WORD = re.compile(r"[\w.]*")
_TEXT = re.compile(r"[\w .,:>/+\-()\[\]]*")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.(?!__)\w+(\.\w+)?|torch\.sym_\w+|math\.(?!_)\w+|"
    r"_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_SYMBOL = re.compile(r"[a-z]{1,4}\d+")
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Min|Max|Mod|Abs|Equality|Unequality|LessThan|GreaterThan|"
    r"StrictLessThan|StrictGreaterThan|Eq|Ne|Le|Lt|Ge|Gt|And|Or|Not|FloorDiv|ModularIndexing|Where|PythonMod|"
    r"CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|"
    r"TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
_ONE_TENSOR_IN = {
    "type": "builtins.tuple",
    "context": "null",
    "children_spec": [
        {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF]},
        {"type": "builtins.dict", "context": "[]", "children_spec": []},
    ],
}


def load_exported(path: Path) -> nn.Module:
    """The network in a torch.export archive, as a module; its batch dimension must be dynamic.

    Raises: ModelError for a file that is none, is damaged, would run code, has several inputs or outputs, was exported
        in train mode or for a fixed number of rows.
    """
    records = _records(path)
    graph = _checked_graph(path, records)
    for name in records:
        if _CONFIG.fullmatch(name):
            _check_config(path, name, records[name])
    try:
        with _quiet():
            program = torch.export.load(_rebuilt(graph, records))
            # Guards are code; the input's shape is checked without them, too.
            net = program.module(check_guards=False)
    except Exception as error:
        raise ModelError(
            f"The archive '{path}' cannot be loaded by torch {torch.__version__}: {first_line(error)}. {HOW_TO_EXPORT}"
        ) from error
    if program.graph_signature.buffers_to_mutate:
        raise _in_train_mode(path, f"it writes to {sorted(program.graph_signature.buffers_to_mutate.values())}")
    for part in net.modules():
        part.training = False  # what is exported is fixed; the flag means nothing, and eval() refuses
    return net


def _records(path: Path) -> dict[str, bytes]:
    """All records by name, through the reader that torch itself uses; only known names are allowed."""
    try:
        reader = PT2ArchiveReader(io.BytesIO(path.read_bytes()))
        records = {name: reader.read_bytes(name) for name in reader.get_file_names()}
    except Exception as error:
        raise ModelError(
            f"'{path}' is no torch.export archive, or it is truncated ({first_line(error)}). {HOW_TO_EXPORT}"
        ) from error
    known = (_TENSOR, _CONFIG, _WRITTEN_ANEW, _LEFT_OUT, re.compile(re.escape(_MODEL)))
    for name in records:
        if not any(pattern.fullmatch(name) for pattern in known):
            raise _refused(path, f"it holds the record '{name}', which is not a plain tensor")
    if _MODEL not in records:
        raise ModelError(f"The archive '{path}' holds no exported program ({_MODEL} is missing). {HOW_TO_EXPORT}")
    return records


def _checked_graph(path: Path, records: dict[str, bytes]) -> dict[str, Any]:
    try:
        graph: dict[str, Any] = json.loads(records[_MODEL])
        graph["guards_code"] = []
        module = graph["graph_module"]
        module["treespec_namedtuple_fields"] = {}
        module["module_call_graph"] = [entry for entry in module["module_call_graph"] if entry["fqn"] == ""]
        graph["torch_version"] = ""
        _check(path, graph, "")
        _check_signature(path, graph)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"The graph in '{path}' is damaged: {first_line(error)}. {HOW_TO_EXPORT}") from error
    return graph


def _check(path: Path, value: Any, key: str) -> None:
    """Walk the graph: drop the metadata, check every string by what torch will do with it."""
    if isinstance(value, dict):
        if "metadata" in value:
            value["metadata"] = {}
        for name, inner in value.items():
            _check_string(path, name, "name")
            _check(path, inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check(path, inner, key)
    elif isinstance(value, str):
        _check_string(path, value, key)


def _check_string(path: Path, value: str, key: str) -> None:
    if key in ("target", "as_operator"):
        fine = _OPERATOR.fullmatch(value) is not None
    elif key == "expr_str":
        fine = _is_plain_expression(value)
    elif key in ("in_spec", "out_spec"):
        fine = json.loads(value) == [1, _ONE_TENSOR_IN if key == "in_spec" else _LEAF]
        if not fine:
            raise ModelError(
                f"The program in '{path}' takes or returns something else than one tensor ({key}). "
                f"Export a wrapper whose forward(x) takes the input alone and returns the logits. {HOW_TO_EXPORT}"
            )
    else:
        fine = (_TEXT if key == "as_string" else _WORD).fullmatch(value) is not None
    if not fine:
        raise _refused(path, f"its graph holds {key} {value[:80]!r}")


def _is_plain_expression(text: str) -> bool:
    """Whether a shape expression only calls known functions on numbers and symbols: torch evaluates it as Python."""
    if len(text) > 10_000:
        return False
    try:
        return all(_is_plain_node(node) for node in ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_plain_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return _FUNCTIONS.fullmatch(node.id) is not None or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _FUNCTIONS.fullmatch(node.func.id) is not None
    if isinstance(node, ast.Constant):
        number = isinstance(node.value, bool | int | float)
        return number or (isinstance(node.value, str) and _SYMBOL.fullmatch(node.value) is not None)
    arithmetic = (ast.Expression, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare, ast.expr_context)
    return isinstance(node, (*arithmetic, ast.operator, ast.unaryop, ast.cmpop))


def _check_signature(path: Path, graph: dict[str, Any]) -> None:
    inner = graph["graph_module"]["graph"]
    for node in inner["nodes"]:
        given = {item["name"]: item["arg"] for item in node["inputs"]}
        if "dropout" in node["target"] and given.get("train", {}).get("as_bool"):
            raise _in_train_mode(path, "its dropout is active")
        # without running statistics, batch norm takes the batch's in eval mode as well
        updates = "as_tensor" in given.get("running_mean", {}) and given.get("training", {}).get("as_bool")
        if "batch_norm" in node["target"] and updates:
            raise _in_train_mode(path, "its batch norm updates its statistics")
    specs = graph["graph_module"]["signature"]["input_specs"]
    names = [spec["user_input"]["arg"]["as_tensor"]["name"] for spec in specs if "user_input" in spec]
    for name in names:
        sizes = inner["tensor_values"][name]["sizes"]
        if sizes and "as_int" in sizes[0]:
            raise ModelError(
                f"The program in '{path}' was exported for exactly {sizes[0]['as_int']} rows at a time; batches of any "
                f"size are needed. {HOW_TO_EXPORT}"
            )


def _check_config(path: Path, name: str, record: bytes) -> None:
    try:
        payloads = json.loads(record)["config"].items()
        for key, payload in payloads:
            if payload["use_pickle"]:
                raise _refused(path, f"the tensor '{key}' is stored as a pickle")
            if not _TENSOR.fullmatch(f"{name.rsplit('/', 1)[0]}/{payload['path_name']}"):
                raise _refused(path, f"the constant '{key}' is stored as an object, '{payload['path_name']}'")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The record {name} in '{path}' is damaged: {first_line(error)}.") from error


def _rebuilt(graph: dict[str, Any], records: dict[str, bytes]) -> io.BytesIO:
    """A fresh archive of the checked graph and the plain tensors; the sample inputs, a pickle, become empty."""
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, record in records.items():
            if _TENSOR.fullmatch(name) or _CONFIG.fullmatch(name):
                writer.write_bytes(name, record)
        writer.write_string(_MODEL, json.dumps(graph))
        writer.write_bytes("data/sample_inputs/model.pt", b"")
    buffer.seek(0)
    return buffer


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.export logs a traceback before it raises: the error says it once, in one paragraph."""
    logger = logging.getLogger("torch.export")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _refused(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The archive '{path}' was refused: {why}. Loading it could run code that the file brings along; only plain "
        "tensors and torch's own operators are read. Export the network again without custom objects or operators, or "
        "name the function that builds it (module:function) with --weights."
    )


def _in_train_mode(path: Path, why: str) -> ModelError:
    return ModelError(f"The program in '{path}' was exported in train mode ({why}). {HOW_TO_EXPORT}")

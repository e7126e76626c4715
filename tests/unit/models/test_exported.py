"""torch.export archives: what works, what is explained, and that no file gets to run anything."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from potemkin.errors import ModelError
from potemkin.models.classifier import Classifier
from potemkin.models.exported import load_exported
from potemkin.models.oracle import Meter, Oracle

DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)
GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
Records = dict[str, bytes]


class Net(nn.Module):
    """Convolution, batch norm, reshapes by the batch size, a constant, a no_grad block: what exports contain."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout())
        self.head = nn.Linear(64, 3)
        self.register_buffer("scale", torch.ones(1))
        self.shift = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).reshape(x.shape[0], 4, 4, 4).flatten(1)
        with torch.no_grad():
            centre = torch.einsum("bi,bi->b", y, y)
        logits: Tensor = self.head(nn.functional.gelu(y, approximate="tanh")) * self.scale + self.shift
        return logits - centre[:, None]


def export(net: nn.Module, path: Path, *, dynamic: Any = DYNAMIC) -> Path:
    program = torch.export.export(net, (torch.rand(8, 1, 4, 4),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def archive(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(net, tmp_path_factory.mktemp("exported") / "net.pt2")


@pytest.mark.parametrize("rows", [2, 8, 24])
def test_an_exported_network_answers_and_climbs_as_before(net: nn.Module, archive: Path, rows: int) -> None:
    x = torch.rand(rows, 1, 4, 4)
    answers = []
    for each in (net, load_exported(archive)):
        classifier = Classifier(each)
        with classifier.guest() as in_train_mode:
            assert in_train_mode == []
            answers.append(
                Oracle(classifier).ask(
                    x,
                    active=torch.ones(rows, dtype=torch.bool),
                    meter=Meter.zeros(rows),
                    objective=lambda z: z[:, 0],
                    climb=True,
                )
            )
    assert torch.equal(answers[0].outputs, answers[1].outputs)
    assert answers[0].gradient is not None and answers[1].gradient is not None
    torch.testing.assert_close(answers[0].gradient, answers[1].gradient)
    assert bool(answers[1].gradient.any())


def test_fingerprints_are_stable_over_loads_and_see_the_graph(archive: Path, tmp_path: Path) -> None:
    prints = [Classifier(load_exported(archive)).fingerprint() for _ in range(2)]
    assert prints[0] == prints[1]
    plain = [nn.Flatten(), nn.Linear(16, 3)]
    torch.manual_seed(1)
    shapes = [nn.ReLU(), nn.Tanh()]
    others = [
        Classifier(load_exported(export(nn.Sequential(*plain, end).eval(), tmp_path / f"{i}.pt2"))).fingerprint()
        for i, end in enumerate(shapes)
    ]
    assert others[0] != others[1]  # the same weights behind another activation


def test_a_wrong_input_is_a_model_error(archive: Path) -> None:
    with pytest.raises(ModelError, match=r"\(8, 1, 5, 4\)"):
        Classifier(load_exported(archive))(torch.rand(8, 1, 5, 4))


def test_a_fixed_batch_is_explained(net: nn.Module, tmp_path: Path) -> None:
    path = export(net, tmp_path / "fixed.pt2", dynamic=None)
    with pytest.raises(ModelError, match=r"exactly 8 rows.*dynamic_shapes=\(\{0: torch\.export\.Dim\.DYNAMIC\},\)"):
        load_exported(path)


@pytest.mark.parametrize("part", ["norm", "dropout"])
def test_train_mode_is_explained(part: str, tmp_path: Path) -> None:
    body = {"norm": nn.BatchNorm2d(1), "dropout": nn.Dropout()}[part]
    path = export(nn.Sequential(body, nn.Flatten(), nn.Linear(16, 3)).train(), tmp_path / "train.pt2")
    with pytest.raises(ModelError, match=r"exported in train mode.*net\.eval\(\)"):
        load_exported(path)


def test_several_outputs_are_explained(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.flatten(1), x.flatten(1) * 2

    with pytest.raises(ModelError, match=r"something else than one tensor.*wrapper"):
        load_exported(export(Two(), tmp_path / "two.pt2"))


@pytest.mark.parametrize("kind", ["text", "empty", "zip", "truncated", "weights"])
def test_what_is_no_archive(kind: str, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt2"
    content = archive.read_bytes()
    path.write_bytes({"text": b"hello", "empty": b"", "truncated": content[: len(content) // 2]}.get(kind, b""))
    if kind == "weights":
        torch.save({"w": torch.ones(2)}, path)
    if kind == "zip":
        path.write_bytes(b"PK\x05\x06" + b"\x00" * 18)
    with pytest.raises(ModelError, match=r"no torch\.export archive, or it is truncated") as caught:
        load_exported(path)
    assert "\n" not in str(caught.value)


# -- hostile files: each carries code that makes a file when it runs


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def rewrite(archive: Path, path: Path, edit: Callable[[Records], None]) -> Path:
    reader = PT2ArchiveReader(io.BytesIO(archive.read_bytes()))
    own = ("archive_format", "archive_version", "byteorder", ".data/")
    records = {name: reader.read_bytes(name) for name in reader.get_file_names() if not name.startswith(own)}
    edit(records)
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, record in records.items():
            writer.write_bytes(name, record)
    path.write_bytes(buffer.getvalue())
    return path


def pickled(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Touch(marker), buffer)
    return buffer.getvalue()


def code(marker: Path) -> str:
    return f"__import__('pathlib').Path('{marker}').touch()"


def in_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[Records], None]:
    def edit(records: Records) -> None:
        graph = json.loads(records[GRAPH])
        change(graph)
        records[GRAPH] = json.dumps(graph).encode()

    return edit


def sample_inputs(marker: Path) -> Callable[[Records], None]:
    return lambda records: records.update({"data/sample_inputs/model.pt": pickled(marker)})


def guards(marker: Path) -> Callable[[Records], None]:
    return in_graph(lambda graph: graph.update(guards_code=[f"({code(marker)}, True)[1]"]))


def pickled_weight(marker: Path) -> Callable[[Records], None]:
    def edit(records: Records) -> None:
        config = json.loads(records[WEIGHTS])
        payload = config["config"]["head.weight"]
        payload["use_pickle"] = True
        records[f"data/weights/{payload['path_name']}"] = pickled(marker)
        records[WEIGHTS] = json.dumps(config).encode()

    return edit


def legacy_weights(marker: Path) -> Callable[[Records], None]:
    return lambda records: records.update({"data/weights/model.pt": pickled(marker)})


def expression(marker: Path) -> Callable[[Records], None]:
    def change(graph: dict[str, Any]) -> None:
        for value in graph["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code(marker)

    return in_graph(change)


def argument_name(marker: Path) -> Callable[[Records], None]:
    """The generated forward would have it as a default value: def forward(self, x=...)."""

    def edit(records: Records) -> None:
        text = records[GRAPH].decode()
        records[GRAPH] = text.replace('"x"', json.dumps(f"x={code(marker)}")).encode()

    return edit


def parameter_name(marker: Path) -> Callable[[Records], None]:
    """The generated forward would say getattr(self, "...")."""

    def edit(records: Records) -> None:
        name = json.dumps(f'a" if {code(marker)} else "b')
        records[GRAPH] = records[GRAPH].decode().replace('"head.weight"', name).encode()
        records[WEIGHTS] = records[WEIGHTS].decode().replace('"head.weight"', name).encode()

    return edit


@pytest.mark.parametrize("make", [sample_inputs, guards])
def test_what_a_file_would_run_is_left_out(make: Callable[[Path], Any], archive: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = rewrite(archive, tmp_path / "hostile.pt2", make(marker))
    assert load_exported(path)(torch.rand(8, 1, 4, 4)).shape == (8, 3)
    assert not marker.exists()
    with contextlib.suppress(Exception):  # torch 2.13 fails where it logs that it has unpickled
        torch.export.load(path).module()(torch.rand(8, 1, 4, 4))
    assert marker.exists()  # torch alone would have run it


@pytest.mark.parametrize("make", [pickled_weight, legacy_weights, expression])
def test_what_a_file_would_run_is_refused(make: Callable[[Path], Any], archive: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = rewrite(archive, tmp_path / "hostile.pt2", make(marker))
    with pytest.raises(ModelError, match=r"was refused: .*could run code"):
        load_exported(path)
    assert not marker.exists()
    with contextlib.suppress(Exception):  # what else becomes of such a file is torch's business
        torch.export.load(path)
    assert marker.exists()  # torch alone would have run it


@pytest.mark.parametrize("make", [argument_name, parameter_name])
def test_names_that_would_become_code_are_refused(make: Callable[[Path], Any], archive: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = rewrite(archive, tmp_path / "hostile.pt2", make(marker))
    with pytest.raises(ModelError, match="was refused: its graph holds"):
        load_exported(path)
    assert not marker.exists()


def change_target(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def change_operator(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "_operator.methodcaller"


def change_tree(graph: dict[str, Any]) -> None:
    signature = graph["graph_module"]["module_call_graph"][0]["signature"]
    signature["out_spec"] = '[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true}]", "children_spec": []}]'


def change_key(graph: dict[str, Any]) -> None:
    graph["range_constraints"]["__import__('os')"] = {"min_val": 2, "max_val": None}


def drop_nodes(graph: dict[str, Any]) -> None:
    del graph["graph_module"]["graph"]["nodes"]


def empty_nodes(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"] = [{"target": "torch.ops.aten.relu.default"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_target, "its graph holds target 'torch.serialization.os.system'"),
        (change_operator, "its graph holds target '_operator.methodcaller'"),
        (change_key, 'its graph holds name "__import__'),
        (change_tree, "something else than one tensor"),
        (drop_nodes, "is damaged"),
        (empty_nodes, "is damaged"),
        (lambda graph: graph.clear(), "is damaged"),
        (lambda graph: graph["schema_version"].update(major=99), "cannot be loaded by torch"),
    ],
)
def test_graphs_that_are_not_as_torch_writes_them(
    change: Callable[[dict[str, Any]], None], message: str, archive: Path, tmp_path: Path
) -> None:
    path = rewrite(archive, tmp_path / "hostile.pt2", in_graph(change))
    with pytest.raises(ModelError, match=message) as caught:
        load_exported(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    ["data/constants/custom_obj_0", "data/constants/opaque_obj_0", "data/aotinductor/model/net.so", "models/b.json"],
)
def test_records_of_other_kinds_are_refused_by_name(record: str, archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / "hostile.pt2", lambda records: records.update({record: b"x"}))
    with pytest.raises(ModelError, match=f"it holds the record '{record}'"):
        load_exported(path)


def test_an_object_among_the_constants_is_refused(archive: Path, tmp_path: Path) -> None:
    name = "data/constants/model_constants_config.json"

    def edit(records: Records) -> None:
        config = json.loads(records[name])
        config["config"]["shift"]["path_name"] = "opaque_obj_0"
        records[name] = json.dumps(config).encode()

    with pytest.raises(ModelError, match="'shift' is stored as an object"):
        load_exported(rewrite(archive, tmp_path / "hostile.pt2", edit))


def test_loading_leaves_the_log_as_it_was(archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = rewrite(archive, tmp_path / "bad.pt2", in_graph(lambda graph: graph["schema_version"].update(major=99)))
    with pytest.raises(ModelError):
        load_exported(path)
    assert caplog.text == "" and not logging.getLogger("torch.export").disabled

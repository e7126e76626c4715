"""The built-in network: small, right on digits it has not seen, and made by the command that its docstring names."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from potemkin.core.registry import lookup
from potemkin.models.builtin import BuiltinDigitsCNN
from potemkin.models.digits_cnn import TRAIN_ROWS, DigitsCNN, accuracy, embedded_digits, main, train_digits_cnn
from potemkin.models.loaders import load_model


def test_it_is_right_on_the_digits_held_out() -> None:
    digits = load_digits()
    inputs = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    net = load_model("digits-cnn").net
    assert accuracy(net, inputs[TRAIN_ROWS:], labels[TRAIN_ROWS:]) >= 0.98
    assert len(inputs[TRAIN_ROWS:]) == 500


def test_the_embedded_digits_are_those_of_scikit_learn() -> None:
    digits = load_digits()
    inputs, labels = embedded_digits()
    assert torch.equal(inputs.squeeze(1) * 16, torch.tensor(digits.images, dtype=torch.float32))
    assert torch.equal(labels, torch.tensor(digits.target))


def test_it_is_small_and_says_how_small() -> None:
    net = BuiltinDigitsCNN().open()
    count = sum(parameter.numel() for parameter in net.parameters())
    assert f"{count:,} parameters" in (DigitsCNN.__doc__ or "")
    assert f"{count:,} parameters" in lookup("digits-cnn", "model").summary
    assert len(resources.files("potemkin.models").joinpath("digits_cnn.safetensors").read_bytes()) < 100_000
    assert not net.training


def test_training_depends_on_the_seed_alone_and_leaves_the_random_state() -> None:
    inputs, labels = embedded_digits()
    torch.manual_seed(5)
    expected = torch.rand(3)

    def weights(seed: int) -> torch.Tensor:
        return train_digits_cnn(inputs[:128], labels[:128], seed=seed, epochs=1).head[1].weight

    torch.manual_seed(5)
    first = weights(0)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, weights(0)) and not torch.equal(first, weights(1))


def test_the_command_trains_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        main(["--out", str(tmp_path / "w.safetensors"), "--epochs", "11", "--seed", "3"])
    finally:
        torch.set_num_threads(threads)
    first, then, said = capsys.readouterr().out.splitlines()
    assert first == "Training digits-cnn on 1,297 digits, 11 epochs …"
    assert then.startswith("10 of 11 epochs done, loss ")
    right = int(said.split(" of 500 digits held out are right")[0])
    assert right > 350
    inputs, labels = embedded_digits()
    net = load_model("digits-cnn", weights=tmp_path / "w.safetensors").net
    assert round(accuracy(net, inputs[TRAIN_ROWS:], labels[TRAIN_ROWS:]) * 500) == right
    assert set(load_file(tmp_path / "w.safetensors")) == set(DigitsCNN().state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "w.pt"], "ends in .safetensors"),
        (["--out", "w.safetensors", "--epochs", "0"], "at least 1"),
        (["--out", "nowhere/w.safetensors"], "does not exist"),
        ([], "--out"),
    ],
)
def test_the_command_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_that_made_the_weights_still_comes_close(tmp_path: Path) -> None:
    """Not to the bit: sums round differently on other machines. Near enough that it is the same training."""
    shipped = load_model("digits-cnn").net
    threads = torch.get_num_threads()
    try:
        main(["--out", str(tmp_path / "w.safetensors")])
    finally:
        torch.set_num_threads(threads)
    again = load_model("digits-cnn", weights=tmp_path / "w.safetensors").net
    inputs, _ = embedded_digits()
    with torch.no_grad():
        same = (shipped(inputs).argmax(dim=1) == again(inputs).argmax(dim=1)).double().mean()
    assert float(same) >= 0.98

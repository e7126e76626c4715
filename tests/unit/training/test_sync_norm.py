"""Batch normalisation over all processes: with one of them it is torch's own, statistics and all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from potemkin.training.sync_norm import SyncedNorm


@pytest.mark.parametrize("momentum", [0.1, None])
def test_alone_it_is_batch_normalisation(momentum: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    torch.manual_seed(0)
    theirs, ours = nn.BatchNorm2d(3, momentum=momentum), SyncedNorm(3, momentum=momentum)
    for _ in range(3):
        x = torch.randn(5, 3, 2, 2) * 2 + 1  # few rows, so that n / (n - 1) shows
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, same = theirs(a), ours(b)
        out.square().sum().mul(0.1).backward()
        same.square().sum().mul(0.1).backward()
        assert torch.allclose(out, same, atol=1e-5) and torch.allclose(a.grad, b.grad, atol=1e-4)  # type: ignore[arg-type]
        for name, buffer in theirs.named_buffers():
            assert torch.allclose(buffer.float(), ours.get_buffer(name).float(), atol=1e-6), name

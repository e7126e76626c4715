"""`potemkin train`: a network, data and a recipe in; a folder with a robust network, its log and its audit out."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from potemkin.cli.failures import FAILED, GATE_FAILED, PASSED
from potemkin.cli.options import AnswerOptions, ModelOptions
from potemkin.cli.session import Reply, Session
from potemkin.cli.train_options import FolderOptions, LearningOptions, MachineOptions, WatchOptions
from potemkin.cli.train_request import Asked
from potemkin.cli.train_settings import all_settings, wants_help
from potemkin.cli.training import Trained, draw_pages, first_process


def train(
    model: str | None = None,
    data: str | None = None,
    *,
    learning: LearningOptions = LearningOptions(),
    network: ModelOptions = ModelOptions(),
    machine: MachineOptions = MachineOptions(),
    watch: WatchOptions = WatchOptions(),
    folder: FolderOptions = FolderOptions(),
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Train a network to be robust, watch how, keep what was best on validation, and audit it.

    potemkin train digits-cnn digits --recipe 'pgd_at(eps=0.1, steps=7)' --epochs 20 --out runs/robust

    potemkin train --resume runs/robust

    Built-in architectures begin with new weights (--weights to go on from others), your function's network as it comes.
    Several processes: torchrun --nproc-per-node 8 -m potemkin train …
    `potemkin train --set help` lists every setting, those without an option of their own among them.

    Exit code 1: an alarm was raised, in training or in the audit at the end. 4: interrupted, or it could not go on;
    --resume goes on.

    Args:
        model: digits-cnn, 'resnet(width=32)', my_models:resnet20, path.py:function, or the folder of another run.
        data: digits (its training part), a .npz or idx file, an image folder, webdataset shards, parquet, my_data:load.
    """
    if wants_help(watch.set):
        return all_settings()
    run = Asked(model, data, learning, network, machine, watch, folder).go(session)
    first = first_process()
    trained = Trained(run, *(draw_pages(session, run) if first else (None, None)))
    alarms = bool(run.journal.alarms()) or bool(run.record and run.record.alarms)
    code = FAILED if trained.interrupted else GATE_FAILED if alarms else PASSED
    if not first:  # one of them speaks for all
        return Reply(code, "", lambda console: None)
    return Reply(code, json.dumps(trained.data(), indent=2, ensure_ascii=False), trained.show)

"""A distillation step in two processes: by NCCL where one GPU takes two of them, else by gloo."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.distillation_step import CLASSES, batch_of, distillation_model

Facts = dict[str, Any]
WORLD = 2


def compare_backends(dry: bool) -> Facts:
    """Run one step of two processes with each backend; each result says how far its gradient is from one process's."""
    facts: Facts = {}
    for backend in ["nccl", "gloo"] if torch.cuda.is_available() else ["gloo"]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                spawn(_worker, args=(backend, _free_port(), folder, dry), nprocs=WORLD)
                facts[backend] = json.loads((Path(folder) / "result.json").read_text())
            except Exception as error:  # NCCL refuses two processes on one GPU: that is a result
                facts[backend] = {"error": str(error).strip().splitlines()[-1]}
    return facts


def _worker(rank: int, backend: str, port: int, folder: str, dry: bool) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dist.init_process_group(backend, rank=rank, world_size=WORLD)
    torch.manual_seed(0)
    side, count = (64, 2) if dry else (256, 8)
    batches = [batch_of(count, side, device) for _ in range(WORLD)]
    single = distillation_model("micro-s.yaml", "micro-l.yaml", side, device)
    wanted = torch.stack([_gradient(single, batch) for batch in batches]).mean(dim=0)
    shared = DistributedDataParallel(distillation_model("micro-s.yaml", "micro-l.yaml", side, device))
    got = _gradient(shared, batches[rank])
    error = float((got - wanted).norm() / wanted.norm())
    if rank == 0:
        result = {"device": device, "classes": len(CLASSES), "relative_gradient_error": error}
        (Path(folder) / "result.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def _gradient(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    model.zero_grad()
    loss, _ = model(batch)
    loss.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])

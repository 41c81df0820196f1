"""Two real processes move prototypes as one does, also where one of them has no pixel."""

import socket
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from boxmask.prototypes.prototype_bank import PrototypeBank, PrototypeSettings, class_pixels

SETTINGS = PrototypeSettings(per_class=3, momentum=0.5, max_pixels=40)
NUM_CLASSES, CHANNELS, STEPS = 3, 4, 4


def pixels_of(step):
    """All pixels of a step: class 2 never has any, more of class 0 than an update looks at."""
    random = torch.Generator().manual_seed(step)
    vectors = F.normalize(torch.randn(90, CHANNELS, generator=random), dim=1)
    labels = torch.cat([torch.zeros(60), torch.ones(30)]).long()
    order = torch.randperm(90, generator=random)
    return vectors[order], labels[order]


def part(step, rank):
    """A process's share of a step: the second has nothing in step 2."""
    vectors, labels = pixels_of(step)
    if rank is None:
        chosen = slice(None)
    elif step == 2:
        chosen = slice(None) if rank == 0 else slice(0, 0)
    else:
        chosen = slice(rank, None, 2)
    counts = 1 if rank is not None and step != 2 else 2
    num_images = torch.tensor([counts, counts, 0])
    if rank == 1 and step == 2:
        num_images = torch.zeros(3, dtype=torch.int64)
    cells, labels = vectors[chosen].T[None, :, None], labels[chosen]  # one picture of one row
    classes = [1, 0] if rank else [0, 1, 2]  # each process has classes of its own
    maps = labels == torch.tensor(classes)[:, None]
    found = class_pixels(cells, cells.flip(1), maps[None, :, None], classes, SETTINGS.max_pixels)
    return replace(found, num_images=num_images[classes])


def moved(rank=None):
    bank = PrototypeBank(NUM_CLASSES, CHANNELS, SETTINGS)
    for step in range(STEPS):
        bank.update(part(step, rank))
    return bank


def work(rank, port, folder):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(moved(rank).state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_two_processes_equal_one(tmp_path):
    mp.start_processes(work, args=(free_port(), tmp_path), nprocs=2, start_method="spawn")
    alone = moved().state_dict()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["vectors"], alone["vectors"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["updates"], alone["updates"])
    assert not alone["vectors"][2].any()

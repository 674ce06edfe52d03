"""Compile every kernel ahead of its first use."""

from __future__ import annotations

from importlib import import_module

from secureagg.events import Event, Observer

__all__ = ["warm_up"]

KERNEL_MODULES = (
    "ring.ntt_kernels",
    "ring.residues_kernels",
    "ring.gaussian_kernels",
    "he.packing_kernels",
    "he.sharing_kernels",
    "dp.quantise_kernels",
    "dp.noise_kernels",
    "dp.rotation_kernels",
    "zk.code_kernels",
    "zk.projection_kernels",
)


def warm_up(observe: Observer | None = None) -> None:
    """Make every kernel ready, telling `observe` as each module of them is.

    Some ten seconds the first time on a machine; later processes load the compiled code from the cache in
    hundredths of a second.
    """
    for done, name in enumerate(KERNEL_MODULES):
        if observe is not None:
            observe(Event(f"compile {name}", done, len(KERNEL_MODULES)))
        import_module(f"secureagg.{name}")
    if observe is not None:
        observe(Event("kernels ready", len(KERNEL_MODULES), len(KERNEL_MODULES)))

"""TensorRT, PyCUDA and the GPU of this machine; what is missing is named with the way to install it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolo_slim.errors import SlimError
from yolo_slim.machine import jetpack_of, l4t_version

PYCUDA = "pycuda==2026.1"
"""Built from source on the device; older releases than 2025.1.1 don't compile with CUDA 13 (JetPack 7)."""
INSTALL_TENSORRT = (
    "It comes with JetPack: sudo apt install python3-libnvinfer. A virtual environment sees it only when made with "
    "python3 -m venv --system-site-packages."
)
INSTALL_PYCUDA = {
    "6": "JetPack 6: sudo apt install build-essential python3-dev cuda-toolkit-12-6 (6.0: cuda-toolkit-12-2), then "
    f"PATH=/usr/local/cuda/bin:$PATH CUDA_ROOT=/usr/local/cuda pip install {PYCUDA}",
    "7": "JetPack 7: sudo apt install build-essential python3-dev nvidia-jetpack, then "
    f"PATH=/usr/local/cuda/bin:$PATH CUDA_ROOT=/usr/local/cuda pip install {PYCUDA}",
}
"""By JetPack's major version. PyCUDA has no wheels: it needs a compiler and the CUDA toolkit's headers."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What ties an engine to a machine."""

    device: str
    """Name of the GPU (``Orin``)."""
    sm: str
    """Compute capability (``8.7``)."""
    cuda: str
    """CUDA version of the driver (``12.6``)."""
    l4t: str | None
    """Jetson Linux release (``36.4.3``); None on other machines."""


def import_tensorrt() -> Any:
    """NVIDIA's ``tensorrt`` module.

    Raises:
        SlimError: missing, or older than the tensor-name API of 8.6.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise SlimError(f"TensorRT's Python package can't be imported: {error}.", remedy=INSTALL_TENSORRT) from None
    if not hasattr(trt, "Builder") or not hasattr(trt.IExecutionContext, "execute_async_v3"):
        version = getattr(trt, "__version__", "(unknown)")
        raise SlimError(
            f"TensorRT {version} isn't usable: it lacks execute_async_v3, which came with 8.5.",
            remedy="Install JetPack 6.0 (TensorRT 8.6) or newer.",
        )
    return trt


def import_pycuda() -> Any:
    """``pycuda.driver``, not yet initialised; see :func:`start_cuda`."""
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        if "libcuda" in str(error):  # PyCUDA is there, NVIDIA's driver isn't
            raise _no_gpu(str(error)) from None
        raise SlimError(f"PyCUDA can't be imported: {error}", remedy=pycuda_remedy()) from None
    return cuda


def start_cuda() -> Any:
    """``pycuda.driver`` with the driver initialised.

    Raises:
        SlimError: PyCUDA missing, no NVIDIA driver, or no GPU.
    """
    cuda = import_pycuda()
    try:
        cuda.init()
        count = cuda.Device.count()
    except cuda.Error as error:
        raise _no_gpu(str(error)) from None
    if count == 0:
        raise _no_gpu("the driver counts 0 devices")
    return cuda


def gpu_facts(cuda: Any) -> Gpu:
    """The facts of the first GPU."""
    device = cuda.Device(0)
    major, minor = device.compute_capability()
    # CUDA writes 12.6 as 12060.
    version = int(cuda.get_driver_version())
    return Gpu(
        device=str(device.name()),
        sm=f"{major}.{minor}",
        cuda=f"{version // 1000}.{version % 1000 // 10}",
        l4t=l4t_version(),
    )


def pycuda_remedy() -> str:
    """How to install PyCUDA on this machine's JetPack, or on each JetPack where that is unknown."""
    jetpack = jetpack_of(l4t_version())
    known = INSTALL_PYCUDA.get((jetpack or "").split(".")[0])
    return f"{known}." if known else "; ".join(INSTALL_PYCUDA.values()) + "."


def offered(kind: Any, name: str) -> Any:
    """An attribute that only some TensorRT versions have, or None."""
    return getattr(kind, name, None)


def out_of_memory(text: str) -> bool:
    """Whether a message of TensorRT or CUDA is about memory that ran out."""
    # The libraries spell it differently: OutOfMemory, OUT_OF_MEMORY, "out of memory".
    low = text.lower().replace(" ", "").replace("_", "")
    return any(part in low for part in ("outofmemory", "insufficientmemory", "cudaerrormemoryallocation"))


def _no_gpu(reason: str) -> SlimError:
    return SlimError(
        f"TensorRT needs an NVIDIA GPU, and none can be used here: {reason}",
        remedy="Run this on the Jetson itself (in a container: with --runtime nvidia), as a user of the groups video "
        "and render; this bundle can't run on another machine.",
        topic="tensorrt-finds-no-gpu",
    )

"""`.npz` files from elsewhere: read without running code, and without more memory than they may take."""

import io
import math
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BYTES = 2**28
"""The most that the arrays of one file may take: a thousand values for each of 50,000 images, and more."""


def load_arrays(content: bytes) -> "dict[str, NDArray[Any]]":
    """The arrays of an `.npz` file by name. Raises ValueError if they are damaged, too large, or Python objects."""
    import zlib

    import numpy as np

    damages = (
        *(EOFError, KeyError, NotImplementedError, OverflowError, RuntimeError, TypeError),
        *(zipfile.BadZipFile, zlib.error),
    )
    try:
        _check_sizes(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except damages as error:
        raise ValueError(f"it is no file of arrays, or is cut short: {error}") from error


def _check_sizes(content: bytes) -> None:
    """Raises ValueError if an array's header promises more than its bytes, or other than numbers and text."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_BYTES:
            raise ValueError(f"its arrays take more than {MOST_BYTES:,} bytes")
        for member in members:
            with archive.open(member) as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(file)
            if dtype.hasobject:
                raise ValueError(f"{member.filename} holds Python objects")
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{member.filename} is shorter than its header says")

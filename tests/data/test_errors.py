"""What damaged bytes make a reader raise becomes one error that names the file."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from fl_meta.data.files.errors import DataFileError, reading

PATH = Path("folder/file.bin")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("users"),
        IndexError(),
        TypeError("5"),
        struct.error("unpack requires 4 bytes"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        RecursionError("too deep"),
        MemoryError(),
        OverflowError("too large"),
        ValueError("of a library"),
        EOFError("it ends"),
        AssertionError(),
        NotImplementedError("compression 99"),
        OSError("of a library, without a number"),
        OSError(errno.EINVAL, "Invalid argument"),
    ],
)
def test_whatever_a_reader_raises_names_the_file(error: Exception) -> None:
    with (
        pytest.raises(DataFileError, match=re.escape(f"{PATH}: damaged, or not a toy")) as caught,
        reading(PATH, "a toy"),
    ):
        raise error
    assert caught.value.__cause__ is error and type(error).__name__ in str(caught.value)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, OSError), (errno.ENOSPC, OSError), (errno.EACCES, PermissionError)]
)
def test_an_error_of_the_disk_stays_one_and_names_a_file(
    number: int, kind: type[OSError], named: bool
) -> None:
    error = OSError(number, "it says", "its/own.name") if named else OSError(number, "it says")
    with pytest.raises(kind, match="it says") as caught, reading(PATH, "a toy"):
        raise error
    assert not isinstance(caught.value, DataFileError) and caught.value.errno == number
    assert caught.value.filename == ("its/own.name" if named else str(PATH))


@pytest.mark.parametrize("error", [DataFileError("ours"), ModuleNotFoundError("h5py"), KeyboardInterrupt()])
def test_our_own_words_and_interruptions_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, reading(PATH, "a toy"):
        raise error
    assert caught.value is error

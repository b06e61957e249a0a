"""The pickler of everything that travels by itself: arguments, values and errors."""

from __future__ import annotations

import io
import pickle
from typing import Any

from cluster_app.carrying import CodePickler
from cluster_app.envelope import take_attachment

__all__ = ["AttachingPickler"]


class AttachingPickler(CodePickler):
    """Pickles by value what a runner cannot import, and takes attachments out."""

    def __init__(self, file: io.BytesIO, attach: tuple[type, ...]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._attach = attach
        self.attachments: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        """As the pickler is asked for each object: how it is written, or NotImplemented for the usual way."""
        if self._attach and isinstance(obj, self._attach):
            self.attachments.append(obj)
            return take_attachment, (len(self.attachments) - 1,)
        return super().reducer_override(obj)

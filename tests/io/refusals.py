"""What is refused, and in which words."""

from __future__ import annotations

import pytest

from maxca.errors import MaxcaError
from maxca.io.images import read


def refused(source: object, *words: str) -> str:
    """The message with which an image is refused: one line that holds these words."""
    with pytest.raises(MaxcaError) as caught:
        read(source)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message

"""The run-time checker behind the tests: tensor shapes, and nothing else."""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and results of ``function`` that are annotated with jaxtyping shapes.

    The other annotations are mypy's work: checked here too, they would forbid a NumPy array where a ``Sequence`` is
    asked for, and beartype takes no ``Protocol`` that is not made for ``isinstance``.
    """
    shapes = {name: hint for name, hint in function.__annotations__.items() if "jaxtyping" in mentions(hint)}
    function.__annotations__ = shapes
    return beartype(function)


def mentions(hint: object) -> str:
    """The modules and names a hint is made of; a jaxtyping shape's own text gives its name only."""
    return f"{type(hint).__module__} {getattr(hint, '__module__', '')} {hint!r}"

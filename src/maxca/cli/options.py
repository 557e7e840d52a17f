"""Options shared by several commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from maxca.cli.dashes import flag
from maxca.fields import About, Option, OptionError, about, options_of
from maxca.options import IMAGES, MACHINE, REGIONS, RegistrationOptions
from maxca.options import MatrixConvention as Convention

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, rich_help_panel=MACHINE, help="CPU threads; by default one per core."),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        rich_help_panel=MACHINE,
        help="Random seed; the output is reproducible for a given seed and thread count.",
    ),
]
_TRANSFORMS = typer.Option(
    "--transform",
    "-t",
    help="A transform; repeatable. As in antsApplyTransforms, a point of the reference passes through the "
    "first one first, and \\[FILE,1] is the inverse of an affine.",
)
Transforms = Annotated[list[Path], _TRANSFORMS]
OptionalTransforms = Annotated[list[Path] | None, _TRANSFORMS]
MatrixConvention = Annotated[
    Convention | None,
    typer.Option("--matrix-convention", help=about(RegistrationOptions, "matrix_convention").help),
]
EXTENSIONS = ".h5, .tfm, .txt, .mat, .lta, .1D, .x5, or a displacement .nii.gz"
READ_EXTENSIONS = f"{EXTENSIONS}, .m3z, .mha or .nrrd"


_OF_BOTH = "of the transform, for files of FSL, FreeSurfer and AFNI, whose coordinates depend on both."


@dataclass(frozen=True)
class TransformFiles:
    """What the files of a transform do not say about themselves."""

    fixed: Annotated[Path | None, About(f"The fixed image {_OF_BOTH}", short="-f")] = None
    moving: Annotated[Path | None, About(f"The moving image {_OF_BOTH}", short="-m")] = None
    matrix_convention: Annotated[Convention | None, about(RegistrationOptions, "matrix_convention")] = None


def from_options(**callbacks: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of its parameters that are classes of options.

    Args:
        callbacks: by field name: validation while the command line is parsed.
    """

    def expanded(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        kinds: dict[str, Any] = {
            each.name: each.annotation for each in signature.parameters.values() if is_dataclass(each.annotation)
        }
        parameters: list[inspect.Parameter] = []
        for each in signature.parameters.values():
            fields = options_of(kinds[each.name]) if each.name in kinds else None
            parameters += [each] if fields is None else [_parameter(one, callbacks.get(one.name)) for one in fields]

        @wraps(command)
        def call(**values: Any) -> None:
            for name, kind in kinds.items():
                given = {each.name: values.pop(each.name) for each in options_of(kind)}
                given |= {each.name: tuple(given[each.name] or ()) for each in options_of(kind) if each.default == ()}
                try:
                    values[name] = kind(**given)
                except OptionError as error:
                    raise typer.BadParameter(f"{error.value}: {error.advice}", param_hint=flag(error.field)) from error
            command(**values)

        required = [each for each in parameters if each.default is inspect.Parameter.empty]
        optional = [each for each in parameters if each.default is not inspect.Parameter.empty]
        call.__signature__ = signature.replace(parameters=required + optional)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        return call

    return expanded


def _parameter(option: Option, callback: Callable[[Any], Any] | None) -> inspect.Parameter:
    """The parameter from which typer creates an option."""
    about = option.about
    setting = typer.Option(
        flag(option.name),
        *([about.short] if about.short else []),
        help=about.help,
        rich_help_panel=about.panel,
        show_default=option.default not in (None, (), MISSING),
        metavar="|".join(option.choices) if about.vocabulary or (option.default == () and option.choices) else None,
        callback=callback,
        min=about.least,
    )
    default = inspect.Parameter.empty if option.default is MISSING else None if option.default == () else option.default
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(option.name, kind, default=default, annotation=Annotated[_type(option), setting])


def _type(option: Option) -> Any:
    """The type of an option on the command line."""
    if option.about.repeated:
        return list[Path]
    if option.default == ():
        return (list[int] if int in get_args(option.type) else list[str]) | None
    if option.type is not Any:
        return option.type
    kind = Path if option.about.panel in (IMAGES, REGIONS) else str
    return kind if option.default in (MISSING,) or isinstance(option.default, str) else kind | None


def help_of(command: Callable[..., None]) -> str:
    """The docstring of a command with one line per paragraph, to be wrapped by the terminal."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

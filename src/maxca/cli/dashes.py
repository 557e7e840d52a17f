"""Messages of the library for the command line: it names fields and keywords, a terminal wants options."""

from __future__ import annotations

import re

from maxca.errors import MaxcaError
from maxca.evaluate.options import EvaluationOptions
from maxca.fields import OptionError, options_of
from maxca.options import RegistrationInputs, RegistrationOptions
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.labelling.options import LabellingOptions
from maxca.workflows.series.options import SeriesInputs, SeriesOptions
from maxca.workflows.template.options import TemplateOptions

# Fields of options, and keywords of the other functions that commands call.
NAMES = {
    each.name
    for kind in (
        RegistrationInputs,
        RegistrationOptions,
        EvaluationOptions,
        CohortOptions,
        LabellingOptions,
        SeriesInputs,
        SeriesOptions,
        TemplateOptions,
    )
    for each in options_of(kind)
}
NAMES |= {"data", "overwrite", "reference", "interpolation", "split", "resume", "steps", "against", "init", "space"}
_KEYWORD = re.compile(rf"(?<![\w/.=-])({'|'.join(sorted(NAMES, key=len, reverse=True))})=(\S+?)(?=[\s,;).]|$)")
_FIELD = re.compile(rf"(?<![\w/.-])({'|'.join(name for name in sorted(NAMES) if '_' in name)})(?![\w.=/-])")


def flag(field: str) -> str:
    """How the command line writes the name of a field."""
    return f"--{field.replace('_', '-')}"


def dashed(error: MaxcaError | str) -> str:
    """The text of an error or a warning with options in place of fields: ``effort=fast`` becomes ``--effort fast``."""
    if isinstance(error, OptionError):
        return f"{flag(error.field)} {error.value}: {dashed(error.advice)}"

    def written(match: re.Match[str]) -> str:
        return flag(match[1]) if match[2] == "True" else f"{flag(match[1])} {match[2]}"

    return _FIELD.sub(lambda match: flag(match[1]), _KEYWORD.sub(written, str(error)))

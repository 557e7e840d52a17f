"""The repository is written in the standard terms of medical image registration, without private vocabulary."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = (
    "src",
    "docs",
    "experiments",
    "benchmarks",
    "tools",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
)
SUFFIXES = {".py", ".md", ".j2", ".js", ".css", ".toml", ""}

# Private expression → the term to use.
PHRASES = {
    r"\btold apart\b|\btells? (\w+ ){0,3}apart\b": "significant difference; distinguish",
    r"\b(asked|named) (for )?by (its |their )?name\b|\bby (its|their) name only\b": "used only when named explicitly",
    r"\b(come|comes|came|coming) along\b": "bundled",
    r"\bprov(e|es|ed|ing) itself\b": "passes the acceptance check",
    r"\bruler\b": "with the same metrics; reference",
    r"\bas (they|it|the images) (lie|lies|lay)\b": "before registration",
    r"\bthe way back\b|\bon the way back\b": "inverse; backward pass",
    r"\bclimb(s|ed|ing)?\b": "maximise",
    r"\b(is|are|all) well\b": "passed; acceptable",
    r"manieth\b": "every n-th, stride",
    r"\bmade[- ]up\b|\bMadeUp\b": "synthetic",
    r"\bheads? that names?\b|\bthrown away\b": "auxiliary segmentation heads, discarded after training",
    r"\bwhat a network says\b|\bwhom to ask\b|\b(its|their|the network's) answers?\b": "prediction; model",
    r"(?<!['\"._])\blikeness\b(?!['\"])|\blooks? unlike\b|\blook like (none|those)\b": "in-distribution check",
    r"\brefuses? its model\b": "reject the model",
    r"\blikewise\b": "the description itself",
    r"\bthat is none\b": "if it is not a valid …",
    r"\bone package more\b|\bmore packages:": "an additional dependency",
    r"\bname it so\b": "use one of these suffixes",
    r"\bmay happen to the moving\b": "transform model",
    r"\btakes? its neighbours\b": "regularisation: Gaussian σ of the update",
    r"\bsame seed and threads\b": "random seed; reproducible",
    r"\bbad images\b|\bspoil(s|ed|ing|t)?\b": "corrupted or out-of-distribution images",
    r"\bsame brain twice\b": "test–retest",
    r"\bcures?\b": "remedy",
    r"\bmend(s|ed|ing)?\b": "repair, correct, fix",
    r"\bheld against\b": "compared with, checked against",
    r"\bworth is known\b": "of known quality",
    r"\bask(s|ed|ing)? (a|the|that|this|for a|its|no|which) (network|model)s?\b": "apply the model",
    r"\bmore alike\b|\bas alike\b": "more similar",
    r"\bwhat came out\b": "result",
    r"\bbeside\b": "next to, in addition to, compared with",
    r"\b(go|goes|went) on where\b": "resumes",
    r"\bbefore any motion\b": "before registration, initial",
    r"\bso many\b": "the number of",
    r"\b(is|are) meant\b": "expected",
}
EXCEPT = {"src/maxca/models/description.py": "likeness"}  # a key in the files of models
COMPILED = {re.compile(pattern, re.IGNORECASE): term for pattern, term in PHRASES.items()}


def tracked(*places: str) -> list[str]:
    """Paths of tracked text files below some places."""
    listed = subprocess.run(["git", "ls-files", *places], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if Path(name).suffix in SUFFIXES]


def found_in(text: str) -> list[str]:
    """Each hit with its line and the term to use."""
    joined = re.sub(r"\s*\n[ \t]*(#[ \t]*)?", " ", text)  # a phrase may continue on the next line
    return [f"{match.group(0)!r}: {term}" for pattern, term in COMPILED.items() for match in pattern.finditer(joined)]


def test_texts_use_the_terms_of_the_field() -> None:
    hits = {}
    for name in tracked(*TEXTS):
        text = (ROOT / name).read_text(encoding="utf-8")
        if found := found_in(text.replace(EXCEPT[name], "") if name in EXCEPT else text):
            hits[name] = found
    assert not hits, "\n".join(f"{name}: {'; '.join(found)}" for name, found in hits.items())


def test_names_of_tests_use_the_terms_of_the_field() -> None:
    hits = {}
    for name in tracked("tests"):
        functions = re.findall(r"^ *(?:async )?def (test_\w+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        if found := found_in("\n".join(function.replace("_", " ") for function in functions)):
            hits[name] = found
    assert not hits, "\n".join(f"{name}: {'; '.join(found)}" for name, found in hits.items())


@pytest.mark.parametrize("text", ["models that come\nalong", "# not told\n    # apart in Dice", "it climbs", "MadeUp"])
def test_private_vocabulary_is_found_across_lines(text: str) -> None:
    assert found_in(text)

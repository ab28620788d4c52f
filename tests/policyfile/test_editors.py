"""The JSON Schema says of whole files what the loader says, as far as a schema can."""

from pathlib import Path

import jsonschema
import pytest

from autoscaler.policyfile.editors import policy_schema
from autoscaler.policyfile.positions import Plain, parse
from autoscaler.policyfile.syntax import decode
from autoscaler.registry import find, names

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy" / "examples").rglob("*.yaml"))
BROKEN = sorted((ROOT / "tests" / "policyfile" / "broken").glob("*.yaml"))
SCHEMA = policy_schema(find(name) for name in names())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# What is wrong with these is not a matter of one field's form.
BEYOND_A_SCHEMA = {
    *("bad-cron", "bad-schedule", "bad-time-zone", "min-above-max", "one-name-twice", "one-workload-twice", "same-metric-name"),
    *("active-until", "until-without-zone", "zero-needs-average-value", "bad-duration-order", "parameter-check", "target-zero"),
    *("policy-no-class", "policy-no-module", "policy-not-one", "custom-without-version", "daemonset", "daemonset-of-apps"),
    *("empty-query", "forecast-of-a-ratio", "health-one-name-twice", "health-same-selector", "zero-of-a-resource"),
}


def documents(file: Path) -> list[Plain]:
    """The documents as other readers see them; none if something is wrong with the YAML itself."""
    text, wrong = decode(file.name, file.read_bytes())
    read, problems = parse(file.name, text)
    usable = wrong is None and not problems and not any(document.problems for document in read)
    return [as_lists(document.root.plain) for document in read] if usable else []


def as_lists(value: Plain) -> Plain:
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, tuple) else value


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in EXAMPLES])
def test_examples(file: Path) -> None:
    (document,) = documents(file)
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.stem) for file in BROKEN if documents(file) and file.stem not in BEYOND_A_SCHEMA]
)
def test_broken(file: Path) -> None:
    assert not all(VALIDATOR.is_valid(document) for document in documents(file))


def test_defaults_are_written_as_a_file_has_them() -> None:
    waits = SCHEMA["$defs"]["WaitsField"]["properties"]
    assert {name: waits[name]["default"] for name in ("imagePull", "badImage", "unready", "restarts")} == {
        "imagePull": "2m",
        "badImage": "0s",
        "unready": "15m",
        "restarts": 3,
    }


def test_every_policy_is_offered_with_its_parameters() -> None:
    choices = SCHEMA["$defs"]["PolicyField"]["oneOf"]
    assert [choice["title"] for choice in choices] == [*names(), "one of your own"]
    for name, choice in zip(names(), choices[:-1], strict=True):
        assert {parameter.name for parameter in find(name).parameters} < set(choice["properties"])

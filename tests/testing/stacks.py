"""Synthesized stacks, as plain values."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from infra.environments import Environment

Resource: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Template:
    path: Path
    body: dict[str, Any]

    def resources(self, resource_type: str) -> dict[str, Resource]:
        """The resources of this type, by logical id."""
        return {id_: found for id_, found in self.body["Resources"].items() if found["Type"] == resource_type}

    def only(self, resource_type: str, beginning: str = "") -> Resource:
        """The only resource of this type whose logical id starts with `beginning`."""
        found = [one for id_, one in self.resources(resource_type).items() if id_.startswith(beginning)]
        assert len(found) == 1, f"{len(found)} of {resource_type} {beginning}"
        return found[0]

    def properties(self, resource_type: str, beginning: str = "") -> dict[str, Any]:
        properties: dict[str, Any] = self.only(resource_type, beginning)["Properties"]
        return properties

    def outputs(self) -> dict[str, Any]:
        """The outputs by logical id, without the exports to the other stack."""
        outputs = self.body["Outputs"].items()
        return {id_: output["Value"] for id_, output in outputs if "Export" not in output}


@dataclass(frozen=True)
class Stacks:
    folder: Path
    data: Template
    service: Template
    findings_open: bool

    @property
    def both(self) -> tuple[Template, Template]:
        return self.data, self.service

    def statements(self, function: str) -> list[dict[str, Any]]:
        """The policy statements of a function's role, with resources as readable names."""
        role = self.service.properties("AWS::IAM::Role", function)
        assert "ManagedPolicyArns" not in role
        (policy,) = role["Policies"]
        return [
            {**statement, "Action": _listed(statement["Action"]), "Resource": self._names(statement["Resource"])}
            for statement in policy["PolicyDocument"]["Statement"]
        ]

    def name(self, value: Any) -> str:
        """The readable name of a reference, as `UsageTable.Arn`, `UsageEvents` or `Failures.Arn/unpublishable/*`."""
        match value:
            case str():
                return value
            case {"Ref": id_}:
                return _without_hash(id_)
            case {"Fn::GetAtt": [id_, attribute]}:
                return f"{_without_hash(id_)}.{attribute}"
            case {"Fn::Join": [separator, parts]}:
                return str(separator).join(self.name(part) for part in parts)
            case {"Fn::ImportValue": export}:
                return self.name(self._exported(export))
        raise AssertionError(f"{value} is no reference that this function can name")

    def _names(self, value: Any) -> list[str]:
        return [self.name(one) for one in _listed(value)]

    def _exported(self, export: str) -> Any:
        (value,) = (o["Value"] for o in self.data.body["Outputs"].values() if o.get("Export") == {"Name": export})
        return value

    def acknowledgments(self) -> Iterator[tuple[str, str]]:
        """Each acknowledged finding with its reason."""
        for path in self.folder.glob("*.metadata.json"):
            for entries in json.loads(path.read_text()).values():
                for entry in entries:
                    if entry["type"] == "aws:cdk:acknowledged-rules":
                        yield from entry["data"].items()


def read(folder: Path, environment: Environment, *, findings_open: bool) -> Stacks:
    prefix = f"usage-metering-{environment.name}"
    return Stacks(
        folder=folder,
        data=_template(folder / f"{prefix}-data.template.json"),
        service=_template(folder / f"{prefix}-service.template.json"),
        findings_open=findings_open,
    )


def _template(path: Path) -> Template:
    return Template(path, json.loads(path.read_text()))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _without_hash(logical_id: str) -> str:
    # The CDK appends eight hexadecimal digits to the logical ids that it generates.
    return logical_id[:-8]

import pytest

from local import deployment
from ops.environments import Outputs

SYNTHESIS_FAILED = """
Traceback (most recent call last):
  File "app.py", line 49, in main
    raise ValueError("synthetic trouble")
ValueError: synthetic trouble
python -m infra.app: Subprocess exited with error 1
"""
SETTING_MISSING = """
infra: There are no functions to deploy in build/bundle/local: build them.
python -m infra.app: Subprocess exited with error 1
"""
TYPE_UNKNOWN = """
usage-metering-local-data: creating stack...
❌  usage-metering-local-data failed to deploy
‣ ValidationError: Template format error: Unrecognized resource types: [AWS::CodeDeploy::Application]
"""


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (SYNTHESIS_FAILED, "ValueError: synthetic trouble"),
        (SETTING_MISSING, "infra: There are no functions to deploy in build/bundle/local: build them."),
        (
            TYPE_UNKNOWN,
            "ValidationError: Template format error: Unrecognized resource types: [AWS::CodeDeploy::Application]",
        ),
        ("killed\n", "killed"),
        ("", "no output"),
    ],
)
def test_the_reason_of_a_failed_deploy_is_found_in_what_was_printed(output: str, reason: str) -> None:
    assert deployment.last_reason(output) == reason


@pytest.mark.parametrize(
    "url", ["http://9b9cfac4.execute-api.localhost:4566", "http://9b9cfac4.execute-api.localhost/"]
)
def test_the_api_is_known_by_the_first_label_of_its_host(url: str) -> None:
    assert deployment.api_id(Outputs(table="t", bus="b", url=url, queue_url="q")) == "9b9cfac4"

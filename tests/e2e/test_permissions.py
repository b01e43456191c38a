"""Every function has its own role, which the emulator enforces. This is the quick part of `make permissions`."""

import pytest

from infra.environments import LOCAL
from ops import local_stack
from tests.permissions.grants import Grant, grants, taken_away
from tests.permissions.noticing import PROBES, documented, first_to_notice, last_of
from tests.testing.local_stack import LocalStack
from tests.testing.stacks import Stacks, read

pytestmark = pytest.mark.verify


@pytest.fixture(scope="module")
def deployed(stack: LocalStack) -> Stacks:
    """The templates that `stack` was deployed from."""
    return read(local_stack.folder(stack.local_json) / "cdk.out", LOCAL, findings_open=False)


@pytest.mark.parametrize("grant", documented(), ids=str)
def test_without_a_grant_the_documented_test_fails_and_with_it_passes_again(
    stack: LocalStack, deployed: Stacks, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    (probe,) = (each for each in PROBES if last_of(each) == documented()[grant])
    granted = grants(deployed)
    with monkeypatch.context() as patience, taken_away(stack, deployed, granted[granted.index(grant)]):
        patience.setattr(stack, "patience_s", 3.0)
        assert first_to_notice(stack, [probe]) == documented()[grant]
    assert first_to_notice(stack, [probe]) is None

"""All mutations, in the order of docs/mutations.md."""

from tests.mutations.subjects.batches import BATCHES
from tests.mutations.subjects.caches import CACHES
from tests.mutations.subjects.callers import CALLERS
from tests.mutations.subjects.commands import COMMANDS
from tests.mutations.subjects.deployment import DEPLOYMENT
from tests.mutations.subjects.isolation import ISOLATION
from tests.mutations.subjects.items import ITEMS
from tests.mutations.subjects.limits import LIMITS
from tests.mutations.subjects.lists import LISTS
from tests.mutations.subjects.notices import NOTICES
from tests.mutations.subjects.publishing import PUBLISHING
from tests.mutations.subjects.queries import QUERIES
from tests.mutations.subjects.record_lists import RECORD_LISTS
from tests.mutations.subjects.recording import RECORDING
from tests.mutations.subjects.requests import REQUESTS
from tests.mutations.subjects.retries import RETRIES
from tests.mutations.subjects.shards import SHARDS
from tests.mutations.subjects.subscriptions import SUBSCRIPTIONS

MUTATIONS = (
    RECORDING
    + RETRIES
    + CALLERS
    + REQUESTS
    + ITEMS
    + PUBLISHING
    + LIMITS
    + NOTICES
    + SUBSCRIPTIONS
    + COMMANDS
    + LISTS
    + QUERIES
    + RECORD_LISTS
    + BATCHES
    + SHARDS
    + CACHES
    + ISOLATION
    + DEPLOYMENT
)

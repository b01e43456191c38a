"""What is broken on purpose, one at a time: all of it, in the order of docs/mutations.md."""

from tests.mutations.hardening import HARDENING
from tests.mutations.mutation import Edit, Mutation
from tests.mutations.remembering import REMEMBERING
from tests.mutations.visibility import VISIBILITY

_RECORDING = (
    Mutation(
        "the record's condition removed",
        "A usage counts once, however often it is sent.",
        (
            Edit(
                "storage/ledger.py",
                '            "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",\n'
                '            "ExpressionAttributeValues": '
                '{":now": {"N": str(deletable_at(to_epoch_s(usage.recorded_at)))}},\n'
                '            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",\n',
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "the condition's expiry branch removed",
        "A key is free again when its record has expired, also while TTL has not deleted it.",
        (
            Edit(
                "storage/ledger.py",
                '"ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",\n'
                '            "ExpressionAttributeValues": '
                '{":now": {"N": str(deletable_at(to_epoch_s(usage.recorded_at)))}},\n',
                '"ConditionExpression": "attribute_not_exists(pk)",\n',
            ),
        ),
        money=True,
    ),
    Mutation(
        "the key freed a second late",
        "A key is free again from the very second of its record's expiry on.",
        (Edit("storage/ledger.py", "OR expiresAt <= :now", "OR expiresAt < :now"),),
        money=True,
    ),
    Mutation(
        "a record deleted while a request for its key may still land",
        "A usage counts once, also where a copy of its request lands after its key is free and its record is gone.",
        (Edit("storage/usage_records.py", "LATEST_LANDING_S = 20 * 60\n", "LATEST_LANDING_S = 0\n"),),
        money=True,
    ),
    Mutation(
        "count outside the transaction",
        "Record and count land together or not at all.",
        (
            Edit(
                "storage/ledger.py",
                "client.transact_write_items(TransactItems=actions)",
                'client.transact_write_items(TransactItems=[action for action in actions if "Put" in action])\n'
                '            for action in (action for action in actions if "Update" in action):\n'
                '                client.update_item(**action["Update"])',
            ),
        ),
        money=True,
    ),
    Mutation(
        "`total` set instead of added",
        "The total is the sum of all usages.",
        (
            Edit(
                "storage/ledger.py",
                '"ADD #total :quantity, #count :count"',
                '"ADD #count :count SET #total = :quantity"',
            ),
            Edit("storage/ledger.py", '{add} SET #hard = :hard"', '{add}, #hard = :hard"'),
        ),
        money=True,
    ),
    Mutation(
        "the quantity counted as one",
        "The total is the sum of the quantities, not the number of usages.",
        (Edit("storage/ledger.py", '{":quantity": {"N": str(addition.quantity)}', '{":quantity": {"N": "1"}'),),
        money=True,
    ),
    Mutation(
        "own commit answered as a replay",
        "A commit whose answer was lost is answered as recorded by the retry inside the request.",
        (Edit("storage/ledger.py", "replayed=False, shard=stored.shard)", "replayed=True, shard=stored.shard)"),),
        money=True,
    ),
    Mutation(
        "a new event id for each try",
        "The event id is fixed once per request, so that a retry inside it finds its own commit.",
        (
            Edit(
                "usage/command.py",
                "Addition([usage], shard, hard_limit, lifts)",
                "Addition([dataclasses.replace(usage, event_id=str(uuid.uuid4()))], shard, hard_limit, lifts)",
            ),
            Edit(
                "usage/command.py",
                "import uuid\n",
                "import dataclasses\nimport uuid\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "other content under a used key answered as a replay",
        "A key belongs to one content: other content under it is refused.",
        (
            Edit(
                "storage/ledger.py",
                "    if stored.usage.fingerprint != usage.fingerprint:\n        raise KeyReused\n",
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a replay answered with what was sent now",
        "A replay answers with the record that stands: its own billing period's total, whatever the clock says.",
        (
            Edit(
                "storage/ledger.py",
                "return Recorded(stored.usage, replayed=True",
                "return Recorded(usage, replayed=True",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a conflict on the counter decided before the record",
        "A record that is there decides, whatever else happened to the transaction.",
        (
            Edit(
                "storage/ledger.py",
                "    if cancelled.stored:\n",
                "    if cancelled.stored and not cancelled.conflict:\n",
            ),
        ),
    ),
    Mutation(
        "a conflict on the record answered as a replay",
        "Whether a key is taken is what the store says after the conflict, not what a conflict suggests.",
        (
            Edit(
                "storage/ledger.py",
                "    if cancelled.busy_records or cancelled.busy_shards:\n",
                "    if cancelled.busy_records and cancelled.conflict:\n"
                "        return Recorded(usage, replayed=True)\n"
                "    if cancelled.busy_records or cancelled.busy_shards:\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "retry on a conflict without a new read of state",
        "Each try asks anew whether the key is free: a rival may have taken it meanwhile.",
        (
            Edit(
                "usage/command.py",
                "Addition([usage], shard, hard_limit, lifts))",
                "Addition([usage], shard, hard_limit, lifts), effort.conflicts > 0)",
            ),
            Edit(
                "storage/ledger.py",
                "addition: Addition) -> Recorded:",
                "addition: Addition, assumed_free: bool = False) -> Recorded:",
            ),
            Edit(
                "storage/ledger.py",
                "record_together(client, table, [addition])",
                "record_together(client, table, [addition], assumed_free)",
            ),
            Edit(
                "storage/ledger.py",
                "additions: Sequence[Addition]) -> Cancellation | None:",
                "additions: Sequence[Addition], assumed_free: bool = False) -> Cancellation | None:",
            ),
            Edit(
                "storage/ledger.py",
                "            client.transact_write_items(TransactItems=actions)",
                "            if assumed_free:\n"
                '                actions[0] = {"Put": {"TableName": table, "Item": actions[0]["Put"]["Item"]}}\n'
                "            client.transact_write_items(TransactItems=actions)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a conflict on the record changes the shard",
        "Only a conflict on the counter alone spreads it over more shards.",
        (
            Edit(
                "storage/ledger.py",
                "on_counter = not cancelled.busy_records",
                "on_counter = bool(cancelled.busy_shards)",
            ),
        ),
    ),
    Mutation(
        "a conflict on the counter keeps the shard",
        "After a conflict on its counter a request adds to another shard.",
        (
            Edit(
                "usage/command.py",
                "FIRST_SHARD if hard_limit is not None else books.counters.shard(usage.counter, effort.random, held)",
                "FIRST_SHARD",
            ),
        ),
    ),
    Mutation(
        "a throttled item not tried again",
        "A throttle inside the transaction is tried again until the deadline.",
        (Edit("storage/ledger.py", "if code == CONFLICT or code in BUSY_REASONS:", "if code == CONFLICT:"),),
    ),
    Mutation(
        "the record looked for without consistency",
        "Usage is found under its key from its acknowledgement on.",
        (Edit("storage/ledger.py", "Key=key, ConsistentRead=True", "Key=key"),),
        money=True,
    ),
    Mutation(
        "an expired record acknowledged",
        "A key that is free again is a new one, also for an organization that may record nothing new.",
        (Edit("storage/ledger.py", "return usage.expires_at <= to_epoch_s(now)", "return False"),),
        money=True,
    ),
    Mutation(
        "the total read without consistency",
        "An answer's total holds its own usage.",
        (Edit("storage/counter_pages.py", "ConsistentRead=True", "ConsistentRead=not feature"),),
        money=True,
    ),
    Mutation(
        "the total read from the first shard",
        "The total is the sum of all shards.",
        (
            Edit(
                "storage/counter_pages.py",
                "        total += counter_total(item)\n        shards =",
                "        total = total or counter_total(item)\n        shards =",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an inactive organization may record",
        "An organization that was set inactive records nothing new.",
        (Edit("usage/command.py", "    if not organization.active:\n", "    if False:\n"),),
        money=True,
    ),
    Mutation(
        "the organization's state decided before the key",
        "Usage once counted is acknowledged for ever after, whatever became of the organization.",
        (
            Edit(
                "usage/command.py",
                "        recorded = _found(usage, books, effort)\n"
                "        if recorded is None:\n"
                "            raise terms.refusal\n",
                "        raise terms.refusal\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an organization remembered for ever",
        "An organization made inactive is refused within a minute.",
        (
            Edit(
                "usage/organization_cache.py",
                " and self._clocks.seconds_since(self._values[name][1]) < REMEMBERED_S",
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a missing organization remembered",
        "An organization works as soon as it exists.",
        (
            Edit(
                "usage/organization_cache.py",
                "_entries: _Memory[Entry] = field",
                "_entries: _Memory[Entry | None] = field",
            ),
            Edit(
                "usage/organization_cache.py",
                "return None if entry is None else self._entries.put(name, entry, read_at)",
                "return self._entries.put(name, entry, read_at)",
            ),
        ),
    ),
    Mutation(
        "the organization's state read without consistency",
        "A change of an organization's state is known within a minute, not at some time.",
        (Edit("storage/consistent_reads.py", "Key=key, ConsistentRead=True", "Key=key"),),
    ),
    Mutation(
        "the held shard chosen again",
        "After a conflict the next try avoids the shard that was held.",
        (Edit("usage/shard_policy.py", "        while shard == held:\n", "        while False:\n"),),
    ),
)

_TRYING = (
    Mutation(
        "a busy store asked once",
        "A busy store is asked again until the deadline.",
        (
            Edit(
                "storage/retry.py",
                "        except StoreBusy:\n            effort.back_off(attempt)\n",
                "        except StoreBusy as busy:\n            raise Unavailable(retry_after_s=1) from busy\n",
            ),
        ),
    ),
    Mutation(
        "a wait beyond the deadline",
        "A request ends by its deadline: no wait goes beyond it.",
        (
            Edit(
                "storage/retry.py",
                "        if self.monotonic() + wait > self.deadline_s:\n"
                "            raise Unavailable(retry_after_s=math.ceil(_LONGEST_WAIT_S))\n",
                "",
            ),
        ),
    ),
    Mutation(
        "a call after the deadline",
        "After the deadline no further call starts.",
        (
            Edit(
                "storage/retry.py",
                "        if self.monotonic() > self.deadline_s:\n            raise Unavailable(retry_after_s=1)\n",
                "        return\n",
            ),
        ),
    ),
    Mutation(
        "waits without jitter",
        "Requests that met wait for different times, so that they do not meet again.",
        (
            Edit(
                "storage/retry.py",
                "random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, 16)))",
                "min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, 16))",
            ),
        ),
    ),
    Mutation(
        "a server's failure not tried again",
        "A failure on DynamoDB's side is tried again until the deadline.",
        (Edit("storage/failures.py", "in _BUSY or status >= 500:", "in _BUSY:"),),
    ),
    Mutation(
        "a lost answer not tried again",
        "A call whose answer was lost is tried again: it may have landed or not.",
        (
            Edit(
                "storage/failures.py",
                "except (ConnectionError, HTTPClientError) as error:",
                "except ConnectionError as error:",
            ),
        ),
    ),
)

_READING = (
    Mutation(
        "the organization taken from a header",
        "The organization comes from the verified token and from nowhere else.",
        (
            Edit(
                "http/caller.py",
                "own = request.claims.get(rules.organization_claim)",
                'own = request.headers.get("x-organization-id") or request.claims.get(rules.organization_claim)',
            ),
        ),
    ),
    Mutation(
        "the organization taken from the body",
        "The organization comes from the verified token and from nowhere else.",
        (
            Edit(
                "record_api.py",
                "    usage = models.record_usage_input(members)\n",
                '    organization = members.pop("organizationId", organization)\n'
                "    usage = models.record_usage_input(members)\n",
            ),
        ),
    ),
    Mutation(
        "the organization taken from another claim",
        "The organization is in the claim that is set for it.",
        (
            Edit(
                "http/caller.py",
                "own = request.claims.get(rules.organization_claim)",
                'own = request.claims.get("org_id")',
            ),
        ),
    ),
    Mutation(
        "an organization of any form",
        "A stored key decodes to one set of parts: an organization holds no `#`.",
        (
            Edit(
                "http/caller.py",
                "if not isinstance(own, str) or re.fullmatch(ORGANIZATION_NAME_PATTERN, own) is None:",
                "if not isinstance(own, str) or not own:",
            ),
        ),
    ),
    Mutation(
        "the scope not checked",
        "Only a token with the operation's scope may record.",
        (Edit("http/caller.py", "    if scope not in scopes:\n", "    if False:\n"),),
    ),
    Mutation(
        "a scope with any prefix accepted",
        "A scope counts with the one prefix that the environment names, and with no other.",
        (
            Edit(
                "http/caller.py",
                "frozenset(scope.removeprefix(rules.scope_prefix) for scope in granted)",
                'frozenset(scope.rpartition("/")[2] for scope in granted)',
            ),
        ),
    ),
    Mutation(
        "scopes read from one claim only",
        "Scopes count in either claim: Okta and Entra ID use `scp`.",
        (Edit("http/caller.py", 'for name in ("scope", "scp") if', 'for name in ("scope",) if'),),
    ),
    Mutation(
        "a list of scopes read as one",
        "Scopes count in a list, which API Gateway shows in brackets.",
        (
            Edit(
                "http/caller.py",
                '            is_list = text.startswith("[") and text.endswith("]")\n',
                "            is_list = False\n",
            ),
        ),
    ),
    Mutation(
        "roles beside scopes",
        "Roles count only where a token has no scopes.",
        (Edit("http/caller.py", "    if not names and rules.roles_as_scopes:\n", "    if rules.roles_as_scopes:\n"),),
    ),
    Mutation(
        "the organization of the header without the right to it",
        "Only a token for any organization acts for the one in the header.",
        (Edit("http/caller.py", "    if ANY_ORGANIZATION in scopes:\n", "    if named is not None:\n"),),
    ),
    Mutation(
        "the organization of the header ignored",
        "A header that names another organization than the token is refused, never ignored.",
        (Edit("http/caller.py", "    if named is not None and named.strip(_SPACES) != own:\n", "    if False:\n"),),
    ),
    Mutation(
        "a missing claim taken for a name",
        "API Gateway may show a claim that is no text as null, true or false: that names no organization.",
        (
            Edit(
                "model/names.py",
                'ORGANIZATION_NAME_PATTERN = rf"(?!(?:null|true|false)$){ORGANIZATION_PATTERN}"',
                "ORGANIZATION_NAME_PATTERN = ORGANIZATION_PATTERN",
            ),
        ),
    ),
    Mutation(
        "query parameters of a command ignored",
        "A command refuses query parameters by name: nothing that was sent is ignored.",
        (Edit("http/request.py", "    _refuse_parameters(request)\n", ""),),
    ),
    Mutation(
        "an encoded body read as it is",
        "A body with a content encoding is refused as such.",
        (Edit("http/request.py", '    _require_plain(request.headers.get("content-encoding", ""))\n', ""),),
    ),
    Mutation(
        "two idempotency keys in one request",
        "A request with two different keys is refused: either could be meant.",
        (Edit("http/request.py", 'if input_members.get("idempotencyKey", key) != key:', "if False:"),),
    ),
    Mutation(
        "a header sent twice taken for one key",
        "A key that a proxy sent twice is never a key of its own.",
        (Edit("http/request.py", '        if "," in header:\n', '        if header == ",":\n'),),
    ),
    Mutation(
        "a media type sent twice accepted",
        "A body that was declared twice is refused: no reader knows which declaration counts.",
        (Edit("http/request.py", 'if "," in _QUOTED_STRING.sub("", content_type):', 'if content_type == ",":'),),
    ),
    Mutation(
        "the body's size counted in characters",
        "A body has at most as many bytes as its operation takes.",
        (Edit("http/request.py", "if len(body) > max_bytes:", "if len(request.body) > max_bytes:"),),
    ),
    Mutation(
        "a member twice accepted",
        "One text has one meaning: a body with a member twice is refused.",
        (Edit("http/strict_json.py", "object_pairs_hook=_unique_members", "object_pairs_hook=dict"),),
    ),
    Mutation(
        "NaN accepted",
        "The body is JSON as the standard has it.",
        (Edit("http/strict_json.py", "    parse_constant=_not_a_number,\n", ""),),
    ),
    Mutation(
        "fingerprint over unsorted members",
        "The same members in another order are the same content.",
        (Edit("http/strict_json.py", 'separators=(",", ":"), sort_keys=True)', 'separators=(",", ":"))'),),
    ),
    Mutation(
        "fingerprint without the metadata",
        "Content is all that was sent, metadata included.",
        (
            Edit(
                "record_api.py",
                'for name, value in members.items() if name != "idempotencyKey"',
                'for name, value in members.items() if name not in ("idempotencyKey", "metadata")',
            ),
        ),
    ),
    Mutation(
        "fingerprint by how a number is written",
        "1.0 and 1 are the same content: a retry may have passed through another writer of JSON.",
        (Edit("http/strict_json.py", "json.dumps(_canonical(value), ", "json.dumps(value, "),),
    ),
    Mutation(
        "fingerprint of true and of 1 alike",
        "Other content under a used key is a conflict, whatever Python takes for equal.",
        (
            Edit(
                "http/strict_json.py",
                "return int(value) if isinstance(value, float) and value.is_integer() else value",
                "return int(value) if isinstance(value, bool | float) and int(value) == value else value",
            ),
        ),
    ),
    Mutation(
        "a quantity of zero accepted",
        "A quantity is a whole number from 1 on.",
        (Edit("http/models.py", "        ge=1,\n", "        ge=0,\n"),),
    ),
    Mutation(
        "a replay not told from a record",
        "A replay says so in its header.",
        (
            Edit(
                "record_api.py",
                "isinstance(outcome, UsageRecorded) and outcome.replayed:\n        headers",
                "False:\n        headers",
            ),
        ),
    ),
    Mutation(
        "an unforeseen error's text told",
        "An answer names no table, no class and nobody else's data.",
        (
            Edit(
                "http/problems.py",
                "_INTERNAL_DETAIL if kind is INTERNAL else str(error)",
                "str(error) or _INTERNAL_DETAIL",
            ),
        ),
    ),
)

_STORING = (
    Mutation(
        "key scope includes the period",
        "A retry a second after midnight finds the record of a second before and counts nothing.",
        (
            Edit(
                "storage/usage_records.py",
                "def usage_key(organization: str, idempotency_key: str) -> Item:",
                'def usage_key(organization: str, idempotency_key: str, billing_period: str = "") -> Item:',
            ),
            Edit(
                "storage/usage_records.py",
                '"sk": {"S": "record"}}',
                '"sk": {"S": f"record#{billing_period}"}}',
            ),
            Edit(
                "storage/usage_records.py",
                "**usage_key(usage.organization, usage.idempotency_key),",
                "**usage_key(usage.organization, usage.idempotency_key, usage.billing_period),",
            ),
            Edit(
                "storage/ledger.py",
                "usage_key(each.usage.organization, each.usage.idempotency_key),",
                "usage_key(each.usage.organization, each.usage.idempotency_key, each.usage.billing_period),",
            ),
            Edit(
                "storage/ledger.py",
                "[usage_key(each.organization, each.idempotency_key) for",
                "[usage_key(each.organization, each.idempotency_key, each.billing_period) for",
            ),
        ),
        money=True,
    ),
    Mutation(
        "key scope includes the feature",
        "One key is one content: the same key for another feature is refused.",
        (
            Edit(
                "storage/usage_records.py",
                "def usage_key(organization: str, idempotency_key: str) -> Item:",
                'def usage_key(organization: str, idempotency_key: str, feature: str = "") -> Item:',
            ),
            Edit(
                "storage/usage_records.py",
                '"sk": {"S": "record"}}',
                '"sk": {"S": f"record#{feature}"}}',
            ),
            Edit(
                "storage/usage_records.py",
                "**usage_key(usage.organization, usage.idempotency_key),",
                "**usage_key(usage.organization, usage.idempotency_key, usage.feature),",
            ),
            Edit(
                "storage/ledger.py",
                "usage_key(each.usage.organization, each.usage.idempotency_key),",
                "usage_key(each.usage.organization, each.usage.idempotency_key, each.usage.feature),",
            ),
            Edit(
                "storage/ledger.py",
                "[usage_key(each.organization, each.idempotency_key) for",
                "[usage_key(each.organization, each.idempotency_key, each.feature) for",
            ),
        ),
        money=True,
    ),
    Mutation(
        "key scope leaves out the organization",
        "Two organizations may use the same key.",
        (
            Edit(
                "storage/usage_records.py",
                'f"{USAGE_PREFIX}{organization}#{idempotency_key}"',
                'f"{USAGE_PREFIX}any#{idempotency_key}"',
            ),
            Edit(
                "storage/usage_records.py",
                '    _, organization, idempotency_key = pk.split("#", 2)\n'
                '    if text_in(item, "organizationId") != organization:\n'
                '        raise MalformedItem("organizationId is not the organization in pk")\n',
                '    _, _, idempotency_key = pk.split("#", 2)\n    organization = text_in(item, "organizationId")\n',
            ),
        ),
        money=True,
    ),
    Mutation(
        "counters of all organizations in one",
        "An organization's total is its own.",
        (
            Edit(
                "storage/counter_items.py",
                'f"{COUNTER_PREFIX}{organization}#{billing_period}"',
                'f"{COUNTER_PREFIX}any#{billing_period}"',
            ),
        ),
        money=True,
    ),
    Mutation(
        "counters of all periods in one",
        "A total is of one billing period.",
        (
            Edit(
                "storage/counter_items.py",
                'f"{COUNTER_PREFIX}{organization}#{billing_period}"',
                'f"{COUNTER_PREFIX}{organization}#any"',
            ),
        ),
    ),
    Mutation(
        "a feature counts those that begin with its name",
        "A feature's total is its own.",
        (Edit("storage/counter_items.py", 'return f"{feature}#"', "return feature"),),
    ),
    Mutation(
        "features counted by their lower case",
        "Two features are two, also where only the case of a letter differs.",
        (
            Edit(
                "storage/counter_items.py",
                'and of no other\'s."""\n    return f"{feature}#"\n',
                'and of no other\'s."""\n    return f"{feature.lower()}#"\n',
            ),
        ),
    ),
    Mutation(
        "the billing period by local time",
        "The billing period is the UTC month.",
        (Edit("model/periods.py", 'moment.astimezone(UTC).strftime("%Y-%m")', 'moment.strftime("%Y-%m")'),),
    ),
    Mutation(
        "the moment of recording rounded to milliseconds",
        "The last moment of a month is in it: moments are cut, not rounded.",
        (
            Edit(
                "usage/command.py",
                "    recorded_at = now.replace(",
                "    now += timedelta(microseconds=500)\n    recorded_at = now.replace(",
            ),
        ),
    ),
    Mutation(
        "stored moments rounded to milliseconds",
        "A moment is stored and told as cut to milliseconds, so that it stays in its month.",
        (
            Edit(
                "model/moments.py",
                "return moment.astimezone(UTC).isoformat(",
                "return (moment + timedelta(microseconds=500)).astimezone(UTC).isoformat(",
            ),
        ),
    ),
    Mutation(
        "a notice's moment rounded to milliseconds",
        "A notice of the last moment of a month is told in it.",
        (
            Edit(
                "outbox/thresholds.py",
                "    now = watch.now()\n    for percentage in",
                "    now = watch.now() + timedelta(microseconds=500)\n    for percentage in",
            ),
        ),
    ),
    Mutation(
        "a record kept for a day",
        "A record keeps its key taken for the whole retention.",
        (Edit("model/periods.py", "int(retention.total_seconds())", "86_400"),),
        money=True,
    ),
    Mutation(
        "the wrong shard written on the record",
        "A record names the shard it was added to, so that totals can be audited.",
        (
            Edit(
                "storage/usage_records.py",
                '"counter": {"M": counter_key(usage, shard)}',
                '"counter": {"M": counter_key(usage, 0)}',
            ),
        ),
        money=True,
    ),
)

_PUBLISHING = (
    Mutation(
        "failed entries ignored",
        "An event is published for every usage: what the bus did not take is sent again.",
        (Edit("outbox/publishing.py", "            again.append(due)\n", "            continue\n"),),
        money=True,
    ),
    Mutation(
        "a wrong sequence number reported",
        "The stream sends again from the first record that is not done.",
        (
            Edit(
                "outbox/publishing.py",
                "(each for each in chunk if each in left)",
                "(each for each in reversed(chunk) if each in left)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "no sequence number reported",
        "What could not be published goes back to the stream.",
        (Edit("outbox/publishing.py", "    return sequence_number(blocked.record)\n", "    return None\n"),),
        money=True,
    ),
    Mutation(
        "sending goes on after a chunk that failed",
        "What the stream sends again anyway is not sent before.",
        (Edit("outbox/publishing.py", "            if failed.is_set():\n                break\n", ""),),
    ),
    Mutation(
        "a lost answer of the bus taken for success",
        "A usage is published only when the bus said so.",
        (
            Edit(
                "outbox/publishing.py",
                "        if not _is_of_the_entries(error):\n            return chunk\n",
                "        if not _is_of_the_entries(error):\n            return []\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "failed entries sent again with those that were taken",
        "Only the entries that failed are sent again.",
        (Edit("outbox/publishing.py", "    return again\n", "    return chunk if again else []\n"),),
    ),
    Mutation(
        "more entries in a call than the bus takes",
        "A call holds at most ten entries.",
        (Edit("outbox/publishing.py", "_CHUNK = 10\n", "_CHUNK = 11\n"),),
    ),
    Mutation(
        "event id derived per delivery",
        "Every delivery of one fact carries the same id.",
        (
            Edit("outbox/events.py", "import json\n", "import json\nimport uuid\n"),
            Edit("outbox/events.py", '"id": fact.id,', '"id": str(uuid.uuid4()),'),
        ),
        money=True,
    ),
    Mutation(
        "event id derived from the key",
        "When a key is free again, its next usage is another fact with another id.",
        (
            Edit(
                "usage/command.py",
                "event_id=str(uuid.uuid4()),",
                "event_id=str(uuid.UUID(hashlib.md5(f'{command.organization} {command.idempotency_key}'.encode())"
                ".hexdigest())),",
            ),
            Edit(
                "usage/command.py",
                "import uuid\n",
                "import hashlib\nimport uuid\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "expired overwrite not published",
        "A usage under a key that was free again is published like any other.",
        (
            Edit(
                "outbox/events.py", 'if record.get("eventName") == "REMOVE":', 'if record.get("eventName") != "INSERT":'
            ),
        ),
        money=True,
    ),
    Mutation(
        "a record touched by hand published again",
        "A usage is new only if its event id was not there before.",
        (
            Edit(
                "outbox/events.py",
                'fact is None or fact.id == mapping_in(change, "OldImage", "eventId").get("S")',
                "fact is None",
            ),
        ),
    ),
    Mutation(
        "what TTL removes taken for malformed",
        "The end of a record is no usage and no failure.",
        (Edit("outbox/events.py", '    if record.get("eventName") == "REMOVE":\n        return None\n', ""),),
    ),
    Mutation(
        "counters taken for usage records",
        "Only usage records become events.",
        (Edit("outbox/events.py", "if not isinstance(pk, str) or pk.startswith(USAGE_PREFIX):", "if True:"),),
    ),
    Mutation(
        "malformed record reported instead of stored",
        "A record that can never be published holds nothing up: it is stored and done.",
        (
            Edit(
                "outbox/publishing.py",
                "        if isinstance(each, _Malformed) "
                "and not _keep(each.record, each.reason, outlets, remaining_s, counts):\n",
                "        if isinstance(each, _Malformed):\n",
            ),
        ),
    ),
    Mutation(
        "malformed record dropped",
        "Nothing is lost: a record that can never be published is stored.",
        (
            Edit(
                "outbox/publishing.py",
                "        if isinstance(each, _Malformed) "
                "and not _keep(each.record, each.reason, outlets, remaining_s, counts):\n",
                "        if False:\n",
            ),
        ),
    ),
    Mutation(
        "records of another source taken for the stream's",
        "An event that is no batch of the stream is an error with a name, and nothing of it counts as done.",
        (
            Edit(
                "outbox/stream_batches.py",
                "isinstance(records, list) and not any(_is_foreign(record) for record in records)",
                "isinstance(records, list)",
            ),
        ),
    ),
    Mutation(
        "an event of another source logged whole",
        "Of an event that is no batch of the stream, its keys are logged and no value.",
        (Edit("outbox/stream_batches.py", 'extra={"keys": keys}', 'extra={"keys": keys, "event": event}'),),
    ),
    Mutation(
        "what is malformed kept before anything is sent",
        "What can never be published holds nobody else up, however many of it there are.",
        (
            Edit(
                "outbox/publishing.py",
                "    chunks = [to_do[start : start + _CHUNK] for start in range(0, len(to_do), _CHUNK)]\n",
                "    for each in to_do:\n"
                "        if isinstance(each, _Malformed):\n"
                "            _keep(each.record, each.reason, outlets, remaining_s, counts)\n"
                "    chunks = [to_do[start : start + _CHUNK] for start in range(0, len(to_do), _CHUNK)]\n",
            ),
        ),
    ),
    Mutation(
        "an entry the bus can never accept sent for ever",
        "A record that can never be published holds nothing up: it is stored and done.",
        (Edit("outbox/publishing.py", "never = code in _NEVER_ACCEPTED", "never = False"),),
    ),
    Mutation(
        "a call spoilt by one of them dropped whole",
        "A record that spoils the call for all takes none of its neighbours with it.",
        (Edit("outbox/publishing.py", "        if len(chunk) > 1:\n", "        if not chunk:\n"),),
        money=True,
    ),
    Mutation(
        "the rest of a split call dropped when one part fails",
        "A call that is split loses none of its parts.",
        (
            Edit(
                "outbox/publishing.py",
                "            return [left for due in chunk "
                "for left in _not_done([due], outlets, remaining_s, counts)]\n",
                "            for due in chunk:\n"
                "                left = _not_done([due], outlets, remaining_s, counts)\n"
                "                if left:\n"
                "                    return left\n"
                "            return []\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a record that could not be kept reported before one that was not sent",
        "What is reported is the first record that is not done.",
        (
            Edit(
                "outbox/publishing.py",
                "    return next((each for each in chunk if each in left), None)\n",
                "    return next(iter(sorted(left, key=lambda each: isinstance(each, _Due))), None)\n",
            ),
        ),
    ),
    Mutation(
        "one that was not sent reported before a record that could not be kept",
        "What is reported is the first record that is not done.",
        (
            Edit(
                "outbox/publishing.py",
                "    return next((each for each in chunk if each in left), None)\n",
                "    return next(iter(left), None)\n",
            ),
        ),
    ),
    Mutation(
        "calls begun after one has failed",
        "What comes after a failed call would be sent twice.",
        (Edit("outbox/publishing.py", "            if not is_done:\n                failed.set()\n", ""),),
    ),
    Mutation(
        "an unforeseen failure in a thread passed over",
        "What nobody foresaw fails the invocation, and the batch comes again.",
        (
            Edit(
                "outbox/publishing.py",
                "[finishing.result() for finishing, _ in begun]",
                "[None if finishing.exception() else finishing.result() for finishing, _ in begun]",
            ),
        ),
    ),
    Mutation(
        "what failed reported in another order",
        "Everything from the first record that is not done is sent again.",
        (Edit("outbox/publishing.py", "            again.append(due)\n", "            again.insert(0, due)\n"),),
    ),
    Mutation(
        "a failure store that failed taken for one that stored",
        "A record counts as done only when it is stored.",
        (Edit("outbox/publishing.py", "extra=facts)\n        return False\n", "extra=facts)\n        return True\n"),),
        money=True,
    ),
    Mutation(
        "a malformed record stored under a new name each time",
        "A record that is delivered twice is stored once.",
        (Edit("outbox/publishing.py", "{UNPUBLISHABLE}/{name}.json", "{UNPUBLISHABLE}/{os.urandom(32).hex()}.json"),),
    ),
    Mutation(
        "a record stored under its reason, too",
        "A record that is refused in two ways is stored once.",
        (Edit("outbox/publishing.py", "json.dumps(record, sort_keys", "json.dumps([reason, record], sort_keys"),),
    ),
    Mutation(
        "a call started too late to end",
        "A call that could outlast the invocation is not started.",
        (Edit("outbox/publishing.py", "    if remaining_s() < RESERVE_S:\n        return chunk\n", ""),),
    ),
)

_LIMITING = (
    Mutation(
        "a hard limit not asked for",
        "A hard limit is never exceeded.",
        (
            Edit("storage/ledger.py", "(attribute_exists(#hard) AND #total <= :room)", "attribute_exists(#hard)"),
            Edit("storage/ledger.py", ', ":room": {"N": str(addition.hard_limit - addition.quantity)}', ""),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit exceeded by one",
        "A hard limit is never exceeded, not by one.",
        (
            Edit(
                "storage/ledger.py",
                "str(addition.hard_limit - addition.quantity)}",
                "str(addition.hard_limit - addition.quantity + 1)}",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit not reached by one",
        "A hard limit can be used up.",
        (Edit("storage/ledger.py", "#total <= :room", "#total < :room"),),
    ),
    Mutation(
        "a hard limit that relies on a counter that was begun soft",
        "Soft turned hard holds from the next period on: until then other shards may hold a part of the total.",
        (Edit("storage/ledger.py", "(attribute_exists(#hard) AND #total <= :room)", "#total <= :room"),),
        money=True,
    ),
    Mutation(
        "a hard limit's mark left by soft usage",
        "Hard turned soft is soft until the period ends, whatever it turns to.",
        (Edit("storage/ledger.py", 'f"{add} REMOVE #hard"\n        names["#hard"] = HARD', "add"),),
        money=True,
    ),
    Mutation(
        "a counter under a hard limit spread over shards",
        "What a hard limit counts is all in the first shard.",
        (
            Edit(
                "usage/command.py",
                "FIRST_SHARD if hard_limit is not None else books.counters.shard(usage.counter, effort.random, held)",
                "books.counters.shard(usage.counter, effort.random, held)",
            ),
            Edit("usage/command.py", "if busy.on_counter and hard_limit is None:", "if busy.on_counter:"),
            Edit("usage/counters.py", "            if self.is_soft(counter):\n", "            if True:\n"),
            Edit(
                "usage/counters.py",
                "known.spread.shard(random, held) if known.is_soft else FIRST_SHARD",
                "known.spread.shard(random, held)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a counter spread by who has not heard of its hard limit",
        "What a hard limit counts is all in the first shard, also while some environment knows of none.",
        (
            Edit("usage/counters.py", "            if self.is_soft(counter):\n", "            if True:\n"),
            Edit(
                "usage/counters.py",
                "known.spread.shard(random, held) if known.is_soft else FIRST_SHARD",
                "known.spread.shard(random, held)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a limit decided before the key",
        "Usage once counted is acknowledged for ever after, whatever the limit is now.",
        (
            Edit(
                "usage/command.py",
                "return _found(usage, books, effort) or UsageRefused(",
                "return UsageRefused(",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an organization's own limit ignored",
        "An organization's own limit takes the place of its plan's.",
        (Edit("model/organizations.py", "    if feature not in organization.limits:\n", "    if True:\n"),),
    ),
    Mutation(
        "a limit reached one too late",
        "limitReached says that the total is at the limit or beyond.",
        (Edit("model/plans.py", "total >= limit", "total > limit"),),
        money=True,
    ),
    Mutation(
        "a refused usage told as recorded",
        "What a hard limit refused is not recorded, and is told so.",
        (Edit("record_api.py", "recorded=isinstance(outcome, UsageRecorded)", "recorded=True"),),
        money=True,
    ),
    Mutation(
        "a first usage beyond the hard limit recorded",
        "A hard limit is never exceeded, also not by the usage that begins a counter.",
        (Edit("usage/command.py", "    if usage.quantity > limit:\n", "    if False:\n"),),
        money=True,
    ),
    Mutation(
        "a soft limit taken for a hard one",
        "A soft limit refuses nothing.",
        (Edit("usage/command.py", "return self.limit if self.hard else None", "return self.limit"),),
        money=True,
    ),
    Mutation(
        "an organization's own limit soft where its plan's is hard",
        "An organization's own limit takes the place of its plan's number and of nothing else.",
        (Edit("model/organizations.py", "own.unit, own.hard, own.warn_at", "own.unit, False, own.warn_at"),),
    ),
    Mutation(
        "a plan remembered for more than a minute",
        "A limit that was changed is known within 60 seconds.",
        (Edit("usage/organization_cache.py", "REMEMBERED_S = 60.0", "REMEMBERED_S = 61.0"),),
    ),
    Mutation(
        "a plan read for every request",
        "A limit costs at most one read a minute.",
        (
            Edit(
                "usage/organization_cache.py",
                "return self._entries.get(name) if self._entries.has(name) else self.find_now(name)",
                "return self.find_now(name)",
            ),
        ),
    ),
    Mutation(
        "nothing recorded for whoever has canceled",
        "Usage counts whatever became of the subscription: only organizations that were set inactive are refused.",
        (
            Edit(
                "usage/command.py",
                "    if not organization.active:\n",
                '    if not organization.active or organization.subscription_status in ("CANCELED", "PAUSED"):\n',
            ),
        ),
    ),
    Mutation(
        "an unknown feature recorded where such are refused",
        "Where unknown features are refused, a feature that no plan has is not recorded.",
        (Edit("usage/command.py", "if each is None and feature not in known]", "if False]"),),
    ),
    Mutation(
        "a feature of another plan refused as unknown",
        "A feature is unknown only if no plan has it.",
        (Edit("usage/command.py", "if each is None and feature not in known]", "if each is None]"),),
    ),
)

_NOTICING = (
    Mutation(
        "a notice overwritten by the next",
        "A threshold is noticed once: its event's id never changes.",
        (Edit("outbox/thresholds.py", ', ConditionExpression="attribute_not_exists(pk)")', ")"),),
        money=True,
    ),
    Mutation(
        "a notice of any limit",
        "A new limit is reached anew.",
        (
            Edit("storage/notice_items.py", 'f"{feature}#{limit}#{percentage}"}', 'f"{feature}#0#{percentage}"}'),
            Edit(
                "storage/notice_items.py",
                '        "currentUsage": {"N": str(notice.current_usage)},\n',
                '        "currentUsage": {"N": str(notice.current_usage)},\n'
                '        "limit": {"N": str(notice.limit)},\n',
            ),
            Edit("storage/notice_items.py", "limit=int(limit),", 'limit=whole_number_in(item, "limit", 0, MAX_LIMIT),'),
        ),
    ),
    Mutation(
        "a threshold noticed one too late",
        "A threshold is reached when the total is at it.",
        (Edit("outbox/thresholds.py", "total * 100 >= each", "total * 100 > each"),),
    ),
    Mutation(
        "a counter's first shard taken for all",
        "Thresholds are those of the whole total.",
        (
            Edit(
                "storage/counter_pages.py",
                "        total += counter_total(item)\n",
                "        total = total or counter_total(item)\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a plan that changed looked at for nobody",
        "A limit that is lowered is reached at once.",
        (
            Edit(
                "outbox/thresholds.py",
                "            yield _Subject(_period_of_change(record, watch), plan="
                "pk.removeprefix(PLAN_PREFIX)), _EACH\n",
                "            return\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a subject that failed taken for done",
        "Whatever crashes, a threshold is noticed.",
        (
            Edit(
                "outbox/thresholds.py",
                "            return next(iter(left.values())).sequence_numbers[0]\n",
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "only the limit itself noticed",
        "Each percentage that the plan warns at is noticed, too.",
        (Edit("outbox/thresholds.py", "(*feature.warn_at, REACHED)", "(REACHED,)"),),
    ),
    Mutation(
        "a past period's counter looked at in the present one",
        "A threshold is one of the period that the usage counts in.",
        (
            Edit(
                "outbox/thresholds.py",
                "yield _Subject(counter.billing_period, organization=counter.organization), counter.feature",
                "yield _Subject(billing_period_of(watch.now()), organization=counter.organization), counter.feature",
            ),
        ),
    ),
    Mutation(
        "a limit that was changed looked at in the period in which the stream tells of it",
        "A limit that is lowered is reached in the period in which it is lowered, however late the stream is.",
        (
            Edit(
                "outbox/thresholds.py",
                "watch.now() if written_at_s is None else datetime.fromtimestamp(written_at_s, UTC)",
                "watch.now()",
            ),
        ),
    ),
    Mutation(
        "an organization that changed not looked at",
        "Another plan, or a limit of its own, is reached at once.",
        (
            Edit(
                "outbox/thresholds.py",
                "            yield _Subject(_period_of_change(record, watch), organization="
                "pk.removeprefix(ORGANIZATION_PREFIX)), _EACH\n",
                "            return\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a notice remembered before it is stored",
        "Whatever fails, a threshold is noticed: also by the environment that failed.",
        (
            Edit(
                "outbox/thresholds.py",
                "    try:\n        # Whoever",
                "    watch.noticed.add(key)\n    try:\n        # Whoever",
            ),
        ),
        money=True,
    ),
    Mutation(
        "what was noticed of one organization taken for noticed of all",
        "Each organization reaches its thresholds in each period anew.",
        (Edit("outbox/thresholds.py", 'key = (item["pk"]["S"], item["sk"]["S"])', 'key = ("", item["sk"]["S"])'),),
        money=True,
    ),
    Mutation(
        "a batch returned from the last record of what failed on",
        "The stream sends again from the first record that tells of what could not be looked at.",
        (
            Edit(
                "outbox/thresholds.py",
                "sequence_numbers[0]\n",
                "sequence_numbers[-1]\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an organization that cannot be read holds up the others",
        "What is malformed takes nobody else's notices with it.",
        (
            Edit(
                "outbox/thresholds.py",
                '        facts = {"reason": str(malformed), **whose}\n',
                '        facts = {"reason": str(malformed), **whose}\n        raise OutOfTime from malformed\n',
            ),
        ),
    ),
    Mutation(
        "a subject begun too late to end",
        "What could outlast the invocation is not begun: it would be looked at for nothing.",
        (Edit("outbox/thresholds.py", "        self._check_time()\n        limited", "        limited"),),
    ),
    Mutation(
        "a plan that changed again taken up where the look before it ended",
        "Everybody on a plan is looked at after its last change.",
        (
            Edit(
                "outbox/thresholds.py",
                "if reached is None or not told_by <= reached.told_by:",
                "if reached is None:",
            ),
        ),
    ),
    Mutation(
        "everybody on a plan looked at again for what else is in the batch",
        "However many are on a plan, the stream gets past it.",
        (
            Edit(
                "outbox/thresholds.py",
                "self._watch.reached[subject] = replace(reached, is_last=True)",
                "self._watch.reached.pop(subject, None)",
            ),
        ),
    ),
    Mutation(
        "one who cannot be read hides everybody after it on its plan",
        "What is malformed takes nobody else's notices with it.",
        (
            Edit(
                "outbox/thresholds.py",
                "            with _passing_over(self._watch, organization=name):\n"
                "                self._notice_usage(name, {_EACH}, subject.billing_period)\n",
                "            self._notice_usage(name, {_EACH}, subject.billing_period)\n",
            ),
        ),
    ),
    Mutation(
        "a limit remembered from the period before",
        "A hard limit holds from the beginning of its first period, whatever was known before.",
        (Edit("usage/command.py", "    books.directory.enter(usage.billing_period)\n", ""),),
        money=True,
    ),
    Mutation(
        "much at once refused in a period in which no hard limit holds",
        "Soft turned hard holds from the next period on, however much comes at once.",
        (
            Edit(
                "usage/command.py",
                "    if not until_answered(lambda: books.counters.is_soft(usage.counter), effort):\n",
                "    if True:\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "stamps cut to milliseconds",
        "The last writer wins, also if the one before it was as little as a microsecond earlier.",
        (Edit("storage/organization_items.py", "timespec='microseconds'", "timespec='milliseconds'"),),
    ),
    Mutation(
        "what an operator sets overtaken by what it replaces",
        "An event that was overwritten by hand does not come back when it is delivered again.",
        (Edit("ops/organizations.py", "by_hand if by_hand > latest else stamp_after(latest, BY_HAND)", "by_hand"),),
    ),
    Mutation(
        "an event of another century believed",
        "No event outranks for ever all that come after it.",
        (Edit("inbound/consumed_events.py", "    if moment > now + MOST_AHEAD:\n", "    if False:\n"),),
    ),
    Mutation(
        "notices not published",
        "Every notice becomes an event.",
        (
            Edit(
                "outbox/events.py",
                "        return limit_noticed(notice_from_item(image))\n",
                "        return None\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an approaching limit told as reached",
        "`billing.limit.reached` says that the limit is reached, and a threshold before it only that it approaches.",
        (Edit("outbox/events.py", "    if notice.percentage == REACHED:\n", "    if True:\n"),),
    ),
)

_SUBSCRIBING = (
    Mutation(
        "an older change written over a newer one",
        "Of two changes to a subscription the later one stays.",
        (Edit("inbound/organization_changes.py", 'stamps.get(name, {"S": ""})["S"] < change.stamp', "True"),),
    ),
    Mutation(
        "a change written over one that overtook it",
        "Two writers of one organization lose nothing of each other.",
        (
            Edit(
                "inbound/organization_changes.py",
                '    elif "changed" in stored:\n'
                '        condition, values[":before"] = "changed = :before", stored["changed"]\n'
                "    else:\n"
                '        condition = "attribute_exists(pk) AND attribute_not_exists(changed)"\n',
                '    else:\n        condition = "attribute_exists(pk)"\n',
            ),
        ),
    ),
    Mutation(
        "a subscription read without consistency",
        "A change rests on what is stored: a stale read would be tried in vain, and drop a change as outdated.",
        (Edit("inbound/organization_changes.py", "Key=key, ConsistentRead=True", "Key=key"),),
    ),
    Mutation(
        "an organization that was deleted stays active",
        "`org.deleted` sets the organization inactive, in whatever order events come.",
        (
            Edit(
                "inbound/organization_changes.py",
                '    if "status" not in newer:\n',
                '    newer.pop("status", None)\n    if True:\n',
            ),
        ),
    ),
    Mutation(
        "an organization created over one that is there",
        "`org.created` creates an organization only if it is absent.",
        (
            Edit(
                "inbound/organization_changes.py",
                "    if change.key == ORG_CREATED and stored is not None:\n        return False\n",
                "",
            ),
            Edit(
                "inbound/organization_changes.py",
                "    if stored is not None and not newer:\n",
                "    if stored is not None and not newer and change.key != ORG_CREATED:\n",
            ),
            Edit(
                "inbound/organization_changes.py",
                '"#status = if_not_exists(#status, :active)"',
                '"#status = :active" if change.key == ORG_CREATED else "#status = if_not_exists(#status, :active)"',
            ),
        ),
    ),
    Mutation(
        "a changed subscription sets its organization active",
        "What others say changes the subscription and nothing else: who was set inactive stays so.",
        (
            Edit(
                "inbound/organization_changes.py", '"#status = if_not_exists(#status, :active)"', '"#status = :active"'
            ),
        ),
    ),
    Mutation(
        "of two changes of one moment the last to come stays",
        "Of two changes of one moment the one with the greater event id stays, in whatever order they come.",
        (
            Edit(
                "inbound/organization_changes.py",
                'stamps.get(name, {"S": ""})["S"] < change.stamp',
                'stamps.get(name, {"S": ""})["S"].partition("#")[0] <= change.stamp.partition("#")[0]',
            ),
        ),
    ),
    Mutation(
        "an older change dropped whole",
        "The last writer wins field by field: what only an older change says is not lost.",
        (
            Edit(
                "inbound/organization_changes.py",
                '{name: value for name, value in change.fields.items() if stamps.get(name, {"S": ""})["S"] '
                "< change.stamp}",
                'dict(change.fields) if max((at["S"] for at in stamps.values()), default="") < change.stamp else {}',
            ),
        ),
    ),
    Mutation(
        "the stamps of what a change does not say forgotten",
        "An older change never comes back, whatever other changes came in between.",
        (Edit("inbound/organization_changes.py", '{"M": {**stamps, **{name:', '{"M": {**{name:'),),
    ),
    Mutation(
        "the name of another plan shown",
        "The name of another plan is no name of this one.",
        (Edit("storage/organization_items.py", 'if stored["plan"]["S"] == plan else None', ""),),
    ),
    Mutation(
        "a subscription in a state that there is not",
        "Nothing is stored of an event that breaks the contract.",
        (Edit("inbound/consumed_events.py", "    if status not in SUBSCRIPTION_STATUSES:\n", "    if False:\n"),),
    ),
    Mutation(
        "a state in another case rejected",
        "A subscription's status counts in whatever case the event spells it.",
        (Edit("inbound/consumed_events.py", "status = sent.upper() if sent.isascii() else sent", "status = sent"),),
    ),
    Mutation(
        "a state stored as it was spelt",
        "A subscription's status is stored and told in upper case.",
        (
            Edit(
                "inbound/consumed_events.py",
                'in any case")\n    return status\n',
                'in any case")\n    return sent\n',
            ),
        ),
    ),
    Mutation(
        "a malformed event dropped",
        "An event that breaks the contract is in the queue, with the reason.",
        (
            Edit(
                "inbound/organization_changes.py",
                "        registry.queue.send_message(QueueUrl=registry.queue_url, MessageBody=message)\n",
                "        str(message)\n",
            ),
        ),
    ),
    Mutation(
        "what is changed by hand not stamped",
        "What an operator sets stays until something later is said.",
        (
            Edit(
                "ops/organizations.py",
                '**{name: {"S": last} for name in changes}',
                '**{name: {"S": ""} for name in changes}',
            ),
        ),
    ),
)

_PLANNING = (
    Mutation(
        "a plan written over what somebody wrote meanwhile",
        "A plan takes the place of what was shown, and of nothing else.",
        (
            Edit(
                "ops/plans.py",
                '"Item": plan_item(change.plan), **_still(change.before)}',
                '"Item": plan_item(change.plan)}',
            ),
        ),
    ),
    Mutation(
        "a plan's features listed after its transaction",
        "A plan is written with its features' names, or not at all.",
        (
            Edit(
                "ops/plans.py",
                'TransactItems=[{"Put": put}, {"Update": update}])',
                'TransactItems=[{"Put": put}])\n        dynamodb.update_item(**update)',
            ),
        ),
    ),
    Mutation(
        "a feature forgotten that a plan got meanwhile",
        "What any plan has is known.",
        (
            Edit(
                "ops/plans.py",
                '            ConditionExpression="#version = :version",\n'
                '            ExpressionAttributeNames={"#known": "known", "#version": "version"},\n'
                '            ExpressionAttributeValues={":unused": {"SS": sorted(unused)}, '
                '":version": listed["version"]},\n',
                '            ExpressionAttributeNames={"#known": "known"},\n'
                '            ExpressionAttributeValues={":unused": {"SS": sorted(unused)}},\n',
            ),
        ),
    ),
    Mutation(
        "a feature that no plan has any more stays known",
        "What no plan has is unknown.",
        (Edit("ops/apply.py", "    plans.forget_unused_features(dynamodb, table)\n", ""),),
    ),
    Mutation(
        "a plan that is as it should be written again",
        "Applying the same file again writes nothing.",
        (Edit("ops/apply.py", '        if change.kind != "unchanged":\n', "        if True:\n"),),
    ),
    Mutation(
        "a plan written on a dry run",
        "A dry run writes nothing.",
        (
            Edit(
                "ops/main.py",
                'say("Nothing was written: this was a dry run.")\n',
                'say("Nothing was written: this was a dry run.")\n'
                "            apply.write(dynamodb, where.table, found.changes, say)\n",
            ),
        ),
    ),
    Mutation(
        "an upgrade URL that no client can read accepted",
        "A plan that is applied holds only URLs that clients can read.",
        (Edit("ops/plan_file.py", "        _URL.validate_python(value)\n", "        pass\n"),),
    ),
    Mutation(
        "nobody asked before a feature in use goes",
        "A feature that has usage in this period goes only if somebody says so.",
        (Edit("ops/apply.py", "    if not losses:\n        return\n", "    return\n"),),
    ),
    Mutation(
        "usage of what a plan loses read without consistency",
        "A feature that an organization has used is taken away only with a yes.",
        (
            Edit(
                "ops/plans.py",
                '{"S": f"#{billing_period}"}},\n        ConsistentRead=True,\n',
                '{"S": f"#{billing_period}"}},\n',
            ),
        ),
    ),
    Mutation(
        "a plan read without consistency",
        "The commands show and write plans as of what is stored.",
        (Edit("ops/plans.py", "Key=key, ConsistentRead=True", "Key=key"),),
    ),
    Mutation(
        "usage of any period keeps a feature",
        "A feature goes unasked if only earlier periods have usage of it.",
        (
            Edit(
                "ops/plans.py",
                'counter_partition(f"({ORGANIZATION_PATTERN})", billing_period)',
                'counter_partition(f"({ORGANIZATION_PATTERN})", ".*")',
            ),
            Edit("ops/plans.py", '":period": {"S": f"#{billing_period}"}', '":period": {"S": "#"}'),
        ),
    ),
)

_ASKING = (
    Mutation(
        "the organization taken from the query string",
        "The organization comes from the verified token and from nowhere else.",
        (
            Edit(
                "query_api.py",
                "            output = answer(models.valid(model, request.parameters(asked)), "
                "organization, service, effort)\n",
                "            sent = request.parameters(asked)\n"
                '            organization = sent.pop("organizationId", organization)\n'
                "            output = answer(models.valid(model, sent), organization, service, effort)\n",
            ),
        ),
    ),
    Mutation(
        "access with a subscription that is canceled or paused",
        "Whose subscription is canceled or paused has access to nothing.",
        (Edit("usage/queries.py", "organization.subscription_status in WITHOUT_ACCESS or ", ""),),
    ),
    Mutation(
        "access for an inactive organization",
        "An organization that was set inactive has access to nothing.",
        (Edit("usage/queries.py", "not organization.active or ", ""),),
    ),
    Mutation(
        "access to a feature at its limit",
        "Access ends just where recording says that the limit is reached.",
        (
            Edit(
                "usage/queries.py",
                '"limit_reached" if is_reached(feature.limit, total)',
                '"limit_reached" if total > feature.limit',
            ),
        ),
    ),
    Mutation(
        "access to what is in no plan",
        "There is access only to what the plan or the organization itself has.",
        (
            Edit("usage/queries.py", " or feature is None:\n", ":\n"),
            Edit(
                "usage/queries.py",
                "    if feature.limit is None:\n",
                "    if feature is None or feature.limit is None:\n",
            ),
        ),
    ),
    Mutation(
        "a percentage of 100 below the limit",
        "Nobody below the limit is told that all of it is used.",
        (
            Edit(
                "usage/queries.py",
                "return percentage if is_reached(self.limit, self.used) else min(percentage, 99.9)",
                "return percentage",
            ),
        ),
    ),
    Mutation(
        "a percentage without its decimal",
        "A percentage has one decimal.",
        (
            Edit(
                "usage/queries.py",
                "round(100 * self.used / self.limit, 1)",
                "float(round(100 * self.used / self.limit))",
            ),
        ),
    ),
    Mutation(
        "a summary of what was used only",
        "A summary has every feature with usage or a limit.",
        (Edit("usage/queries.py", "sorted(limited | totals.keys())", "sorted(totals.keys())"),),
    ),
    Mutation(
        "a summary of its first page",
        "A summary is the sum of all shards over all pages.",
        (Edit("storage/counter_pages.py", "while after is not None:", "while False:"),),
        money=True,
    ),
    Mutation(
        "a summary read without consistency",
        "A summary holds what was answered as recorded before.",
        (Edit("storage/counter_pages.py", "ConsistentRead=True", "ConsistentRead=bool(feature)"),),
        money=True,
    ),
    Mutation(
        "a past period answered with the present one",
        "A summary is of the billing period that was asked for.",
        (
            Edit(
                "query_api.py",
                '        raise InputInvalid([Issue(path, "period_in_future", message)])\n    return period\n',
                '        raise InputInvalid([Issue(path, "period_in_future", message)])\n    return present\n',
            ),
        ),
    ),
    Mutation(
        "a future period answered",
        "Of a billing period that has not begun nothing is told.",
        (Edit("query_api.py", "    if period > present:\n", "    if False:\n"),),
    ),
    Mutation(
        "a period in the contract's example spelling ignored",
        "The period is understood by either of its names.",
        (Edit("query_api.py", 'asked.get("period", "current"))', '"current")'),),
    ),
    Mutation(
        "a subscription told as it is remembered",
        "What has become known of a subscription is told at once.",
        (Edit("usage/queries.py", "view.directory.find_now, name", "view.directory.find, name"),),
    ),
    Mutation(
        "a subscription told in parts",
        "A subscription is not found until all of it is known.",
        (Edit("usage/queries.py", "        or plan_name is None\n", ""),),
    ),
)

_BATCHING = (
    Mutation(
        "the second of a key in a batch answered like the first",
        "The same key twice in a batch is one record: the second is a replay, or a reuse of the key.",
        (
            Edit(
                "usage/batch.py",
                "entry.outcome = ledger.stored_before(stored, entry.usage)",
                "entry.outcome = Recorded(stored.usage, replayed=False, shard=stored.shard)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a key twice in one transaction",
        "A key that stands in a batch twice goes into one transaction once.",
        (
            Edit(
                "usage/batch.py",
                "            if usage.idempotency_key in claimed:\n",
                "            if False:\n",
            ),
        ),
    ),
    Mutation(
        "the smallest of a batch admitted first",
        "A hard limit admits the records of a batch in their order.",
        (
            Edit(
                "usage/batch.py",
                "        for entry in self._open():\n            usage, limit =",
                "        for entry in sorted(self._open(), key=lambda each: each.usage.quantity):\n"
                "            usage, limit =",
            ),
        ),
    ),
    Mutation(
        "a hard limit's room given to every record of a batch",
        "What a hard limit has room for is recorded, though not all of the batch fits.",
        (
            Edit(
                "usage/batch.py",
                "self._at_least[usage.counter] + wanted[usage.counter] + usage.quantity > limit",
                "self._at_least[usage.counter] + usage.quantity > limit",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a record that a transaction holds taken for absent",
        "Nothing is refused while a transaction that may record it is under way.",
        (
            Edit(
                "storage/ledger.py",
                "looked.held.extend(usages[position] for position in held.positions)",
                "del held",
            ),
        ),
        money=True,
    ),
    Mutation(
        "what was not answered in time told as refused",
        "What may have been recorded when the deadline came is told as unavailable.",
        (
            Edit(
                "usage/batch.py",
                "        for entry in self._open():\n            entry.outcome = unavailable\n",
                "        for entry in self._open():\n            entry.outcome = LimitExceeded(0)\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "what others hold told as refused",
        "A record that another transaction holds is tried again, and not given up.",
        (
            Edit(
                "usage/batch.py",
                "            elif self._aside or self._unread:\n",
                "            elif False:\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a batch failed by one record",
        "One bad record never fails its neighbours.",
        (Edit("record_api.py", "            outcomes[index] = invalid\n", "            raise\n"),),
    ),
    Mutation(
        "a batch's refusals without a look at what was recorded",
        "Usage once counted is acknowledged for ever after, also in a batch that may record nothing new.",
        (
            Edit(
                "usage/batch.py",
                "        looked = ledger.stored_among(self._books.client, self._books.table, usages)\n",
                "        looked = ledger.Looked([], {}, [])\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a batch's first quantity counted for all",
        "A counter's one update in a transaction adds the quantities of all its records.",
        (
            Edit(
                "storage/ledger.py",
                "return sum(usage.quantity for usage in self.usages)",
                "return self.usages[0].quantity",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a batch's records counted as one",
        "A counter's count is the number of its records.",
        (Edit("storage/ledger.py", '":count": {"N": str(len(addition.usages))}', '":count": {"N": "1"}'),),
        money=True,
    ),
    Mutation(
        "a rival for a record taken for a busy counter",
        "A conflict on a record says nothing about the counter.",
        (
            Edit(
                "usage/batch.py",
                "        if not cancelled.busy_records:\n            self._learn",
                "        if True:\n            self._learn",
            ),
        ),
    ),
    Mutation(
        "room given away that a key's other content may take",
        "A hard limit admits the records of a batch in their order, also where a key stands for two features.",
        (
            Edit(
                "usage/batch.py",
                "!= usage.fingerprint:\n                    waiting.add(usage.counter)\n",
                "!= usage.fingerprint:\n                    pass\n",
            ),
        ),
    ),
    Mutation(
        "room of a held record given away",
        "A hard limit admits the records of a batch in their order, also where another transaction holds one of them.",
        (
            Edit(
                "usage/batch.py",
                "                if limit is not None:\n                    waiting.add(usage.counter)\n",
                "                pass\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a key given away whose record fits when another takes no room",
        "What sending them one by one would have come to, also where what is before a record is no new one.",
        (
            Edit(
                "usage/batch.py",
                "if usage.counter in self._unread or self._at_least[usage.counter] + usage.quantity <= limit:",
                "if usage.counter in self._unread:",
            ),
        ),
    ),
    Mutation(
        "refused although the counter has not answered",
        "Nobody is refused at a hard limit before it is known what its counter holds.",
        (
            Edit(
                "usage/batch.py",
                "            elif self._aside or self._unread:\n",
                "            elif self._aside:\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a batch that waits for a counter that does not answer",
        "Only who is to be refused waits for a hard-limited counter that does not answer.",
        (
            Edit(
                "usage/batch.py",
                "            first = self._books.counters.look(counter)\n",
                "            first = until_answered(lambda: self._books.counters.look(counter), self._effort)\n",
            ),
        ),
    ),
    Mutation(
        "a key given away before it is known whether a limit holds",
        "What sending them one by one would have come to, also where a counter does not answer at once.",
        (Edit("usage/batch.py", "if usage.counter in self._unread or self._at_least", "if self._at_least"),),
    ),
    Mutation(
        "a counter that did not answer never asked again",
        "What sending them one by one would have come to, also where a counter does not answer at once.",
        (
            Edit(
                "usage/batch.py",
                "        self._waits += 1\n        self._unread.clear()\n",
                "        self._waits += 1\n",
            ),
        ),
    ),
    Mutation(
        "a batch failed by a stored record that cannot be read",
        "One record that cannot be read holds up nobody else.",
        (
            Edit(
                "storage/ledger.py",
                "                found.malformed[subject.idempotency_key] = malformed\n",
                "                raise malformed\n",
            ),
        ),
    ),
    Mutation(
        "a wider counter asked for after the deadline",
        "No call begins that may outlast the invocation.",
        (
            Edit(
                "usage/counters.py",
                "        try:\n            effort.check()\n",
                "        try:\n",
            ),
        ),
    ),
    Mutation(
        "a further page begun too late to end",
        "No call begins that may outlast the invocation, however many pages a counter has.",
        (Edit("outbox/thresholds.py", "            self._check_time()\n", ""),),
    ),
    Mutation(
        "more than a transaction takes",
        "A transaction has at most 100 items, the counters' updates included.",
        (Edit("usage/batch.py", "left = MOST_ACTIONS\n", "left = 2 * MOST_ACTIONS\n"),),
    ),
    Mutation(
        "a busy counter tried first again",
        "A counter that stays busy holds up nobody else of its batch.",
        (Edit("usage/batch.py", "sorted(chosen, key=self._busy.__contains__)", "list(chosen)"),),
    ),
    Mutation(
        "all counters tried together however busy they are",
        "Where one of many counters is busy again and again, fewer are tried together.",
        (Edit("usage/batch.py", "max(1, len(additions) // 2)", "len(additions)"),),
    ),
    Mutation(
        "free shards of a cancelled batch not learned",
        "What would have been let in speaks against further pages.",
        (
            Edit(
                "usage/batch.py",
                "                self._books.counters.let_in(addition.counter, addition.shard)\n",
                "                pass\n",
            ),
        ),
    ),
    Mutation(
        "one unreadable total fails its batch",
        "A counter that cannot be read is told of its own records only.",
        (Edit("usage/batch.py", "            return malformed\n", "            raise\n"),),
    ),
    Mutation(
        "one event id for a batch",
        "Each record of a batch is a fact of its own, with an event of its own.",
        (
            Edit(
                "usage/command.py",
                "event_id=str(uuid.uuid4())",
                "event_id=str(uuid.UUID(hashlib.md5(f'{command.trace_id} {now}'.encode()).hexdigest()))",
            ),
            Edit(
                "usage/command.py",
                "import uuid\n",
                "import hashlib\nimport uuid\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "expired records acknowledged in a batch",
        "A key that is free again is a new one, also in a batch.",
        (
            Edit(
                "storage/ledger.py",
                "if stored is not None and not _has_expired(stored.usage, usage.recorded_at):\n",
                "if stored is not None:\n",
            ),
        ),
        money=True,
    ),
)

_SPREADING = (
    Mutation(
        "an addition to a page that nobody has announced",
        "Nobody adds to a page of shards before it is announced.",
        (
            Edit(
                "usage/shard_policy.py",
                "        if self.width < SHARDS_PER_PAGE:\n",
                "        if self.width < 4 * SHARDS_PER_PAGE:\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a page used without an announcement",
        "Whoever wants further pages announces them before adding to one.",
        (
            Edit(
                "usage/counters.py",
                "pages = counter_pages.announce(self.client, self.table, counter, wanted)",
                "pages = wanted",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an announcement taken back",
        "The number of announced pages only grows.",
        (
            Edit(
                "storage/counter_pages.py",
                '                ConditionExpression="attribute_not_exists(#pages) OR #pages < :pages",\n',
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "an announcement with usage of its own",
        "An announcement adds nothing to the total.",
        (Edit("storage/counter_pages.py", '":none": {"N": "0"}', '":none": {"N": "1"}'),),
        money=True,
    ),
    Mutation(
        "a counter's last page not read",
        "The total is the sum of all pages.",
        (Edit("storage/counter_pages.py", "for page in range(1, pages))", "for page in range(1, pages - 1))"),),
        money=True,
    ),
    Mutation(
        "a feature's further pages not asked for",
        "Whether a limit is reached is decided by the sum of all pages.",
        (
            Edit(
                "usage/queries.py",
                "total = first.total + _further_pages(counter, first.pages, view, effort)",
                "total = first.total",
            ),
        ),
    ),
    Mutation(
        "a summary of first pages",
        "A summary is the sum of all pages of every counter.",
        (
            Edit(
                "usage/queries.py",
                "for feature, announced in found.pages.items():",
                "for feature, announced in {}.items():",
            ),
        ),
        money=True,
    ),
    Mutation(
        "thresholds of first pages",
        "Thresholds are those of the sum of all pages.",
        (Edit("outbox/thresholds.py", "range(1, found.pages.get(counter.feature, 1))", "range(1, 1)"),),
        money=True,
    ),
    Mutation(
        "further pages under one partition key",
        "Each further page of shards has a partition key of its own.",
        (
            Edit(
                "storage/counter_items.py",
                'return first if page == 0 else f"{first}#{counter.feature}#{page}"',
                'return first if page == 0 else f"{first}#{counter.feature}#1"',
            ),
        ),
    ),
    Mutation(
        "a remembered total without what was recorded since",
        "A total that is remembered holds what its environment has recorded itself since.",
        (
            Edit(
                "usage/counters.py",
                "            total = total._replace(quantity=total.quantity + quantity)\n",
                "            pass\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a total remembered for ever",
        "A total is read again after a second.",
        (
            Edit(
                "usage/counters.py",
                "total is not None and self.clocks.seconds_since(total.read_at) < total.for_s",
                "total is not None",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a total remembered on a single page",
        "While a counter has one page, its total holds all that was recorded before.",
        (Edit("usage/counters.py", "known.spread.pages > 1 and not at_once", "not at_once"),),
        money=True,
    ),
    Mutation(
        "a replay told a remembered total",
        "A replay's total holds what is replayed.",
        (Edit("usage/command.py", "at_once=recorded.replayed)", "at_once=False)"),),
        money=True,
    ),
    Mutation(
        "what others have found out not learned",
        "A new environment spreads a counter as widely as a read of it shows that others do.",
        (
            Edit(
                "usage/counters.py",
                "spread = known.spread.saw(first.shards, first.pages)",
                "spread = known.spread",
            ),
        ),
    ),
)

_DEPLOYING = (
    Mutation(
        "the API open to every page",
        "Browsers are no callers of the API.",
        (
            Edit(
                "infra/http_api.py",
                "            create_default_stage=False,\n",
                "            create_default_stage=False,\n"
                '            cors_preflight=apigatewayv2.CorsPreflightOptions(allow_origins=["*"]),\n',
            ),
        ),
    ),
    Mutation(
        "usage of an unknown feature recorded in prod",
        "In prod, usage of a feature that no plan has is refused.",
        (Edit("infra/environments.py", 'unknown_features="reject",', 'unknown_features="accept",'),),
    ),
    Mutation(
        "prod's usage deleted with its stack",
        "In prod, stored usage outlives its stack, which is protected from deletion.",
        (Edit("infra/environments.py", "    retain_data=True,\n", "    retain_data=False,\n"),),
    ),
    Mutation(
        "prod's logs kept for a month",
        "In prod, logs are kept for a year.",
        (Edit("infra/environments.py", "    log_retention_days=365,\n", "    log_retention_days=30,\n"),),
    ),
    Mutation(
        "prod's throttle at a tenth",
        "In prod, the API takes 2,000 requests a second.",
        (Edit("infra/environments.py", "    throttle_rate_per_s=2000,\n", "    throttle_rate_per_s=200,\n"),),
    ),
)

MUTATIONS = (
    _RECORDING
    + _TRYING
    + _READING
    + _STORING
    + _PUBLISHING
    + _LIMITING
    + _NOTICING
    + _SUBSCRIBING
    + _PLANNING
    + _ASKING
    + _BATCHING
    + _SPREADING
    + REMEMBERING
    + HARDENING
    + VISIBILITY
    + _DEPLOYING
)

"""Mutations of what keeps a hard limit that a remembered plan does not have."""

from tests.mutations.mutation import Edit, Mutation

_CONDITION = (
    "        update |= {\n"
    '            "UpdateExpression": add,\n'
    '            "ConditionExpression": "attribute_not_exists(#hard)",\n'
    '            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",\n'
    "        }\n"
)
_READ_AGAIN = "        terms = terms_of([usage], books, effort, now=True)[usage.feature]\n"
_BATCH_READS_AGAIN = "self._effort, now=True)"

HARDENING = (
    Mutation(
        "a hard limit lifted without a condition",
        "A hard limit ends by what is stored, and by no memory.",
        (Edit("storage/ledger.py", _CONDITION, '        update["UpdateExpression"] = f"{add} REMOVE #hard"\n'),),
        money=True,
    ),
    Mutation(
        "soft usage added beside a hard limit's mark",
        "Usage without a hard limit is not added to a counter under one.",
        (
            Edit(
                "storage/ledger.py",
                _CONDITION + '        names["#hard"] = HARD\n',
                '        update["UpdateExpression"] = add\n',
            ),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit lifted on remembered terms",
        "Before a hard limit is lifted, the organization and its plan are read again.",
        (Edit("usage/command.py", _READ_AGAIN, ""),),
        money=True,
    ),
    Mutation(
        "a hard limit lifted by a batch on remembered terms",
        "Before a batch lifts a hard limit, the organization and its plan are read again.",
        (Edit("usage/batch.py", _BATCH_READS_AGAIN, "self._effort)"),),
        money=True,
    ),
    Mutation(
        "terms read again and not used",
        "What was read again decides whether a hard limit is lifted.",
        (Edit("usage/command.py", _READ_AGAIN, "        terms_of([usage], books, effort, now=True)\n"),),
        money=True,
    ),
    Mutation(
        "terms read again and not used by a batch",
        "What was read again decides whether a batch lifts a hard limit.",
        (Edit("usage/batch.py", "            entry.terms = terms[entry.usage.feature]\n", "            str(terms)\n"),),
        money=True,
    ),
    Mutation(
        "organization and plan read again from memory",
        "Before a hard limit is lifted, organization and plan are read again.",
        (
            Edit(
                "usage/command.py", "books.directory.find_now if now else books.directory.find", "books.directory.find"
            ),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit never lifted",
        "Usage is recorded without a hard limit once the stored plan has none.",
        (Edit("usage/command.py", "books, effort, lifts=lifts)", "books, effort)"),),
    ),
    Mutation(
        "a hard limit never lifted by a batch",
        "A batch is recorded without a hard limit once the stored plan has none.",
        (Edit("usage/batch.py", "        self._lifted |= set(hard)\n", ""),),
    ),
)

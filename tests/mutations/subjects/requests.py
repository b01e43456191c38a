"""Mutations of how a request is read and answered."""

from tests.mutations.mutation import Edit, Mutation

REQUESTS = (
    Mutation(
        "query parameters of a command ignored",
        "A command refuses query parameters by name: nothing that was sent is ignored.",
        (Edit("body_members", "$refuse_parameters(request)"),),
    ),
    Mutation(
        "an encoded body read as it is",
        "A body with a content encoding is refused as such.",
        (Edit("body_members", "$require_plain(...)"),),
    ),
    Mutation(
        "two idempotency keys in one request",
        "A request with two different keys is refused: either could be meant.",
        (Edit("with_idempotency_key", "input_members.get(...) != key", "False"),),
    ),
    Mutation(
        "a header sent twice taken for one key",
        "A key that a proxy sent twice is never a key of its own.",
        (Edit("unquoted_key", 'if "," in header:', 'if header == ",":'),),
    ),
    Mutation(
        "a media type sent twice accepted",
        "A body that was declared twice is refused: no reader knows which declaration counts.",
        (Edit("require_json", '"," in $QUOTED_STRING.sub(...)', 'content_type == ","'),),
    ),
    Mutation(
        "the body's size counted in characters",
        "A body has at most as many bytes as its operation takes.",
        (Edit("body_members", "if len(body) > max_bytes:", "if len(request.body) > max_bytes:"),),
    ),
    Mutation(
        "a member twice accepted",
        "One text has one meaning: a body with a member twice is refused.",
        (Edit("JSON_DECODER", "object_pairs_hook=$unique_members", "object_pairs_hook=dict"),),
    ),
    Mutation(
        "NaN accepted",
        "The body is JSON as the standard has it.",
        (Edit("JSON_DECODER", "parse_constant=$refuse_nan,"),),
    ),
    Mutation(
        "fingerprint over unsorted members",
        "The same members in another order are the same content.",
        (Edit("fingerprint", ", sort_keys=True"),),
    ),
    Mutation(
        "fingerprint without the metadata",
        "Content is all that was sent, metadata included.",
        (Edit("command_from_members", '!= "idempotencyKey"', 'not in ("idempotencyKey", "metadata")'),),
    ),
    Mutation(
        "fingerprint by how a number is written",
        "1.0 and 1 are the same content: a retry may have passed through another writer of JSON.",
        (Edit("fingerprint", "json.dumps($canonical(value),", "json.dumps(value,"),),
    ),
    Mutation(
        "fingerprint of true and of 1 alike",
        "Other content under a used key is a conflict, whatever Python takes for equal.",
        (Edit("canonical", "(value, float) and value.is_integer()", "(value, bool | float) and int(value) == value"),),
    ),
    Mutation(
        "a quantity of zero accepted", "A quantity is a whole number from 1 on.", (Edit("Quantity", "ge=1,", "ge=0,"),)
    ),
    Mutation(
        "a replay not told from a record",
        "A replay says so in its header.",
        (Edit("success_answer", "isinstance(...) and outcome.replayed", "False"),),
    ),
    Mutation(
        "an unforeseen error's text told",
        "An answer names no table, no class and nobody else's data.",
        (Edit("problem", "$INTERNAL_DETAIL if kind is $INTERNAL else str(error)", "str(error) or $INTERNAL_DETAIL"),),
    ),
)

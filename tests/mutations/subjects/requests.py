"""Mutations of how a request is read and answered."""

from tests.mutations.mutation import Edit, Mutation

REQUESTS = (
    Mutation(
        "query parameters of a command ignored",
        "A command rejects query parameters and names them.",
        Edit("body_members", "$require_no_parameters(request)"),
    ),
    Mutation(
        "an encoded body accepted",
        "A body with a content encoding is an invalid request.",
        Edit("body_members", "$require_plain(...)"),
    ),
    Mutation(
        "two idempotency keys in one request accepted",
        "A request with two different keys is invalid: either could be meant.",
        Edit("with_idempotency_key", "input_members.get(...) != key", "False"),
    ),
    Mutation(
        "a header sent twice treated as one key",
        "A key that a proxy sent twice does not become another key.",
        Edit("unquoted_key", 'if "," in header:', 'if header == ",":'),
    ),
    Mutation(
        "a media type sent twice accepted",
        "A body with two media types is an invalid request.",
        Edit("require_json", '"," in $QUOTED_STRING.sub(...)', 'content_type == ","'),
    ),
    Mutation(
        "the body's size counted in characters",
        "A body has at most as many bytes as its operation takes.",
        Edit("body_members", "if len(body) > max_bytes:", "if len(request.body) > max_bytes:"),
    ),
    Mutation(
        "a duplicate member accepted",
        "A body with a duplicate member is an invalid request.",
        Edit("JSON_DECODER", "object_pairs_hook=$unique_members", "object_pairs_hook=dict"),
    ),
    Mutation(
        "NaN accepted",
        "The body is JSON as the standard defines it.",
        Edit("JSON_DECODER", "parse_constant=$refuse_nan,"),
    ),
    Mutation(
        "a fingerprint of unsorted members",
        "The same members in another order are the same content.",
        Edit("fingerprint", ", sort_keys=True"),
    ),
    Mutation(
        "a fingerprint without the metadata",
        "The content is everything in the request, including its metadata.",
        Edit("command_from_members", '!= "idempotencyKey"', 'not in ("idempotencyKey", "metadata")'),
    ),
    Mutation(
        "a fingerprint of a number's spelling",
        "1.0 and 1 are the same content: a retry can pass through another JSON writer.",
        Edit("fingerprint", "json.dumps($canonical(value),", "json.dumps(value,"),
    ),
    Mutation(
        "the same fingerprint for true and 1",
        "Other content under a used key is a conflict, even if Python compares it as equal.",
        Edit("canonical", "(value, float) and value.is_integer()", "(value, bool | float) and int(value) == value"),
    ),
    Mutation(
        "a quantity of zero accepted", "A quantity is a whole number from 1 on.", Edit("Quantity", "ge=1,", "ge=0,")
    ),
    Mutation(
        "a replay without its header",
        "A replay says so in its header.",
        Edit("answer_single", 'result["status"] == "replayed"', "False"),
    ),
    Mutation(
        "an unforeseen error's text shown",
        "A response shows no table, no class and no other organization's data.",
        Edit("problem", "$INTERNAL_DETAIL if kind is $INTERNAL else str(error)", "str(error) or $INTERNAL_DETAIL"),
    ),
)

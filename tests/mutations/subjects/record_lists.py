"""Mutations of lists and exports of usage records."""

from tests.mutations.mutation import Edit, Mutation

RECORD_LISTS = (
    Mutation(
        "the rest of a bucket left out of a list",
        "A list holds each record that exists all the time.",
        Edit("list_position", "if part.last_key is not None:", "if False:"),
    ),
    Mutation(
        "a bucket listed from its start again",
        "A list holds no record twice.",
        Edit("list_round", "afters.get(bucket)", "None"),
    ),
    Mutation(
        "later buckets listed before the rest of a bucket",
        "A list continues exactly where its page ended.",
        Edit("list_page", "break"),
    ),
    Mutation(
        "a bucket that did not answer left out of a list",
        "A list has no gap: its page ends before a bucket that was not read.",
        Edit("list_round", "return parts, late", "parts.append($BucketPart([], 0, None))"),
    ),
    Mutation(
        "a list read without consistency",
        "A list holds all acknowledged usage.",
        Edit("read_bucket", "ConsistentRead=True,", "ConsistentRead=False,"),
    ),
    Mutation(
        "an expired record listed",
        "A list leaves out a record from the second of its expiry on.",
        Edit("list_page", "if not $has_expired(...)"),
    ),
    Mutation(
        "records behind a full page lost",
        "A page that ends at its size continues behind its last record.",
        Edit("list_page", "position_after(found[most - 1].idempotency_key)", "position"),
    ),
    Mutation(
        "records behind the largest answer lost",
        "A page that ends at Lambda's limit continues behind its last record.",
        Edit("answer_usage_list", 'position = cursors.position_after(answer["records"][-1]["idempotencyKey"])', "pass"),
    ),
    Mutation(
        "another list's cursor accepted",
        "A cursor belongs to one organization and one filter.",
        Edit("cursor_position", "if to_text(position, organization, wanted) != cursor:", "if False:"),
    ),
    Mutation(
        "a list of all features",
        "A list holds only the records that were asked for.",
        Edit("answer_usage_list", ', asked.get("feature")'),
    ),
    Mutation(
        "an export whose sums are too small accepted",
        "An export proves that its sums equal the counters.",
        Edit(
            "compare_export",
            "if not before.get(feature, 0) <= self.quantities[feature] <= after.get(feature, 0)",
            "if self.quantities[feature] > after.get(feature, 0)",
        ),
    ),
    Mutation(
        "an export compared with the counters of its start",
        "An export agrees with the counters although usage is recorded meanwhile.",
        Edit("export_usage", "summary.compare(before, after)", "summary.compare(before, before)"),
    ),
    Mutation(
        "a formula in an export",
        "No text of a record is a formula in a spreadsheet.",
        Edit("export_cell", 'return f"\'{text}" if text.startswith((*_FORMULA, "\'")) else text', "return text"),
    ),
    Mutation(
        "an export half written under its name",
        "A file appears complete or not at all.",
        Edit(
            "replace_file",
            'os.fdopen(descriptor, "w", encoding="utf-8", newline="")',
            'path.open("w", encoding="utf-8", newline="")',
        ),
        Edit("replace_file", "os.fsync(file.fileno())\n made.replace(path)", "os.close(descriptor)"),
    ),
)

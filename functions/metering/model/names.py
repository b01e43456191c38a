"""Patterns of names and keys: organizations, features, plans, idempotency keys."""

ORGANIZATION_PATTERN = r"[A-Za-z0-9_-]{1,64}"
# No new organization can be named null, true or false, because API Gateway turns claims with these values into text. An
# organization with one of these names would match every token without a proper claim. Stored keys can still hold them.
ORGANIZATION_NAME_PATTERN = rf"(?!(?:null|true|false)$){ORGANIZATION_PATTERN}"
FEATURE_PATTERN = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
KEY_PATTERN = r"[\x21-\x7e]{1,255}"
TRACE_ID_PATTERN = r"[\x20-\x7e]{1,128}"
PLAN_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
# One line, as in plans.schema.json. DynamoDB does not accept lone surrogates.
PLAN_NAME_PATTERN = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}"
SUBSCRIPTION_ID_PATTERN = r"[\x21-\x7e]{1,255}"

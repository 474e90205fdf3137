"""The closed list of what can be wrong with a plan document; docs/runtime-plan.md explains each."""

import enum


class IssueCode(enum.StrEnum):
    """The code of an issue. The first block is about the bytes, the second about fields, the third about the whole."""

    PLAN_TOO_LARGE = "plan_too_large"
    NOT_UTF8 = "not_utf8"
    INVALID_JSON = "invalid_json"
    TOO_DEEP = "too_deep"
    DUPLICATE_KEY = "duplicate_key"
    FLOAT_REFUSED = "float_refused"
    INTEGER_OUT_OF_RANGE = "integer_out_of_range"
    NULL_REFUSED = "null_refused"
    INVALID_TEXT = "invalid_text"

    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_VALUE = "unknown_value"
    OUT_OF_RANGE = "out_of_range"
    MALFORMED = "malformed"
    INVALID_HOST_PATTERN = "invalid_host_pattern"
    LONE_WILDCARD = "lone_wildcard"
    INVALID_PATH_PREFIX = "invalid_path_prefix"
    INVALID_HEADER_NAME = "invalid_header_name"
    INVALID_HEADER_VALUE = "invalid_header_value"
    RESERVED_HEADER = "reserved_header"
    INVALID_URL = "invalid_url"

    WILDCARD_BASE_URL = "wildcard_base_url"
    CLEARTEXT_BASE_URL = "cleartext_base_url"
    HEADER_CONFLICT = "header_conflict"
    KEPT_AUTH_HEADER = "kept_auth_header"
    DUPLICATE_ID = "duplicate_id"
    ARTIFACT_INVALID_REF = "artifact_invalid_ref"
    ROUTE_CONFLICT = "route_conflict"
    TOO_MANY_ROUTES = "too_many_routes"
    TOO_MANY_CLAIMS = "too_many_claims"
    DIGEST_MISMATCH = "digest_mismatch"
    MORE_ISSUES = "more_issues"

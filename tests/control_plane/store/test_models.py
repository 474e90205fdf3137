"""The tables by their rules: every secret is bytes, every text has no length, every name is ours."""

from sqlalchemy import LargeBinary, String

from control_plane.store.models import Model

SEALED = {
    ("authorization_sessions", "verifier"),
    ("credentials", "value"),
    ("data_keys", "wrapped"),
    ("idempotent_answers", "answer"),
    ("interception_authorities", "private_key"),
    ("push_subscribers", "secret"),
    ("signing_keys", "private_key"),
    ("target_secrets", "value"),
    ("token_answers", "answer"),
    ("webhook_subscriptions", "secret"),
}
PUBLIC_BYTES = {("plans", "document"), ("signing_keys", "public_key")}


def test_columns_of_bytes_are_ciphertexts_or_known_to_be_public() -> None:
    found = {
        (table.name, column.name)
        for table in Model.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert found == SEALED | PUBLIC_BYTES


def test_texts_have_no_length_that_one_database_would_enforce() -> None:
    for table in Model.metadata.tables.values():
        assert all(column.type.length is None for column in table.columns if isinstance(column.type, String))


def test_constraints_have_names_that_migrations_can_use() -> None:
    for table in Model.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)

"""The table of tools, held against the API that they ask."""

import re

from control_plane.api.built_in.operations import ARGUMENTS, OPERATIONS, Effect
from control_plane.api.openapi import path_shape
from control_plane.callers import PERMISSIONS


def test_names_are_told_apart_and_are_tools() -> None:
    names = [each.name for each in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z_]{1,64}", name) for name in names)


def test_each_may_be_asked_by_the_role_it_is_asked_with() -> None:
    allowed = {(method, path_shape(path)): roles for (method, path), roles in PERMISSIONS.items()}
    for each in OPERATIONS:
        assert each.role in allowed[each.method, path_shape(each.path)], each.name


def test_what_reads_changes_nothing() -> None:
    # These compute, and are POST only because of what they are given.
    computing = {"diff_plans", "simulate_requests"}
    for each in OPERATIONS:
        assert (each.effect is Effect.READS) == (each.method == "GET" or each.name in computing), each.name


def test_arguments_are_told() -> None:
    assert all(text.endswith(".") for text in ARGUMENTS.values())

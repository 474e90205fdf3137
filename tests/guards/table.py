"""Every guard that is broken by `make guards`, by what it keeps out. The case codes are those of the tests' names.

The text of each stands exactly once in its file. A replacement takes away the guard and nothing else, so that the test
fails for the right reason; where a guard has two halves, each half has an entry.
"""

from typing import Final

from tests.guards.breaking import Guard

_CORE: Final = "tests/gateway/core/"
_WIRE: Final = "tests/sallyport/wire/"

# --- what the sandbox brought is removed (C1, P9) --------------------------------------------------------------------

_SLOTS: Final = 'frozenset({b"authorization", b"x-api-key", b"api-key", b"private-token", b"cookie"})'
_ROUTE_TABLE: Final = "gateway/core/route_table.py"
_FOREIGN: Final = f"{_CORE}test_upstream_head.py::test_c1_a_foreign_key_never_rides_along"
_REMOVED: Final = f"{_CORE}test_route_table.py::test_c1_every_auth_slot_and_what_is_written_is_removed"

_SLOT_REMOVAL: Final = (
    *(
        Guard(f"auth slot {slot}", _ROUTE_TABLE, _SLOTS, _SLOTS.replace(f'b"{slot}"', 'b"-"'), _FOREIGN)
        for slot in ("authorization", "x-api-key", "api-key", "private-token", "cookie")
    ),
    Guard(
        "slots removed before injection",
        "gateway/core/upstream_head.py",
        "lines = head.without(removed)",
        "lines = head.lines",
        _FOREIGN,
    ),
    Guard(
        "slot of a header injection",
        "sallyport/plan/model.py",
        "            names.append(header.lower())\n",
        "            pass\n",
        _REMOVED,
    ),
    Guard(
        "slots of additional headers",
        "sallyport/plan/model.py",
        '    names += _names_of(fields.get("additional_headers"))\n',
        "",
        f"{_CORE}test_route_table.py::test_c1_all_headers_that_are_written_are_removed",
    ),
    Guard(
        "slots of additional credential headers",
        "sallyport/plan/model.py",
        '    names += _names_of(fields.get("additional_credential_headers"))\n',
        "",
        f"{_CORE}test_route_table.py::test_c1_all_headers_that_are_written_are_removed",
    ),
    Guard(
        "what is written is never kept",
        _ROUTE_TABLE,
        "- kept) | written)",
        "- kept))",
        f"{_CORE}test_route_table.py::test_c1_keep_headers_never_keeps_what_is_written",
    ),
    Guard(
        "authorization is never kept",
        "sallyport/plan/model.py",
        'written = {"authorization", *',
        "written = {*",
        "tests/sallyport/plan/test_model.py::test_a_route_is_strict",
    ),
    Guard(
        "method and path overrides",
        _ROUTE_TABLE,
        "(AUTH_SLOTS | OVERRIDES)",
        "AUTH_SLOTS",
        f"{_CORE}test_upstream_head.py::test_what_overrides_the_method_or_the_path_never_rides_along",
    ),
    Guard(
        "slot of a query injection",
        _ROUTE_TABLE,
        "own = [route.auth_injection.parameter] if isinstance(route.auth_injection, QueryInjection) else []",
        "own: list[str] = []",
        f"{_CORE}test_upstream_head.py::test_p9_the_injected_parameter_is_the_only_one_of_its_name",
    ),
    Guard(
        "stripQuery",
        _ROUTE_TABLE,
        "return [*own, *(route.strip_query or ())]",
        "return own",
        f"{_CORE}test_route_table.py::test_p9_the_injected_parameter_is_stripped",
    ),
    Guard(
        "encoded names of a parameter",
        "gateway/core/inject/query.py",
        'if b"%" in name:',
        "if False:",
        f"{_CORE}inject/test_query.py::test_p9_every_spelling_is_taken_out",
    ),
    *(
        Guard(
            f"{what} of a parameter",
            "gateway/core/inject/query.py",
            text,
            broken,
            f"{_CORE}inject/test_query.py::test_p9_every_spelling_is_taken_out",
        )
        for what, text, broken in (
            ("the case", "__abcdefghijklmnopqrstuvwxyz", "__ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            ("a NUL behind the name", '.partition(b"\\0")[0].lstrip', ".lstrip"),
            ("spaces before the name", '.lstrip(b" ").translate', ".translate"),
            ("dots in the name", 'b" .ABC', 'b" _ABC'),
            ("an unclosed bracket", 'if name.replace(b"[", b"_") in names:', "if False:"),
            ("brackets round the name", '    name = name.lstrip(b"[]")\n', ""),
            ("brackets behind the name", 'name.replace(b"]", b"[").partition(b"[")[0] in names', "name in names"),
            ("code units of UTF-16", 'if b"%u" in name else', "if False else"),
        )
    ),
    Guard(
        "brackets of a configured name's own",
        "gateway/core/inject/query.py",
        "return has_brackets and not names",
        "return False and not names",
        f"{_CORE}inject/test_query.py::test_p9_a_name_that_is_spelled_oddly_itself",
    ),
    Guard(
        "parameters behind a semicolon",
        "gateway/core/inject/query.py",
        'rb"([&;])"',
        'rb"([&])"',
        f"{_CORE}inject/test_query.py::test_p9_every_spelling_is_taken_out",
    ),
    Guard(
        "slots in trailers",
        "gateway/request_body.py",
        'return [line for line in trailers if field_name(line.partition(b":")[0]) not in removed]',
        "return trailers",
        "tests/gateway/test_request_body.py::test_s3_a_body_keeps_its_framing",
    ),
    Guard(
        "extensions of a scrubbed WebSocket",
        "gateway/core/upstream_head.py",
        "removed = injection.removed if upgrade is None else injection.removed | _EXTENSIONS",
        "removed = injection.removed",
        f"{_CORE}test_upstream_head.py::test_c3_a_scrubbed_websocket_has_no_extensions",
    ),
)

# --- requests that are signed (C1, C3, C4, S10) ----------------------------------------------------------------------

_SIGNER: Final = "gateway/core/inject/aws_sigv4.py"
_TEST_SIGNER: Final = f"{_CORE}inject/test_aws_sigv4.py::"
_TEST_SIGNED: Final = "tests/flow/test_signed_requests.py::"
_KEPT: Final = "gateway/kept_body.py"
_TEST_KEPT: Final = "tests/gateway/test_kept_body.py::"

_SIGNED: Final = (
    *(
        Guard(
            f"slot {name} of a signature",
            "sallyport/plan/model.py",
            f'"{name}"',
            '"x-unused"',
            f"{_CORE}test_route_table.py::test_c1_every_auth_slot_and_what_is_written_is_removed",
        )
        for name in ("x-amz-content-sha256", "x-amz-date", "x-amz-security-token")
    ),
    Guard(
        "a signature in the query",
        "gateway/serve.py",
        "        self._query = without_presigned(self._query)\n",
        "",
        f"{_TEST_SIGNED}test_c1_what_the_sandbox_signed_is_thrown_away",
    ),
    Guard(
        "a signature in the query, in any case",
        _SIGNER,
        "if name.lower().startswith(_AMZ))",
        'if name.startswith(b"X-Amz-"))',
        f"{_TEST_SIGNER}test_c1_p9_a_signature_in_the_query_is_taken_out",
    ),
    Guard(
        "a signature in the query, encoded",
        _SIGNER,
        "names = {_decoded(name) for",
        "names = {name for",
        f"{_TEST_SIGNER}test_c1_p9_a_signature_in_the_query_is_taken_out",
    ),
    Guard(
        "chunks that are signed one by one",
        _SIGNER,
        "    raise Refused(payload_signed_in_parts())\n",
        "    return Payload(text, is_told=True)\n",
        f"{_TEST_SIGNER}test_what_cannot_be_signed_anew_is_refused",
    ),
    Guard(
        "a credential of another kind than the injection's",
        "gateway/core/inject/prepare.py",
        "if not isinstance(credential.value, AwsKeys):",
        "if False:",
        f"{_CORE}inject/test_prepare.py::test_a_credential_of_another_kind_is_refused",
    ),
    Guard(
        "every secret of a session is looked for",
        "gateway/core/inject/prepare.py",
        "for each in one.secrets)",
        "for each in one.secrets[:1])",
        f"{_TEST_SIGNED}test_c3_what_a_service_shows_of_the_keys_is_blanked",
    ),
    Guard(
        "what a signature's scope holds",
        "gateway/core/aws_keys.py",
        "if _ACCESS_KEY_ID.fullmatch(text) is None:",
        "if False:",
        f"{_CORE}test_aws_keys.py::test_c4_what_cannot_be_signed_with",
    ),
    Guard(
        "secrets of keys in files and variables",
        "gateway/core/aws_keys.py",
        "reason = why_unusable(text)",
        "reason = None",
        f"{_CORE}test_aws_keys.py::test_c4_what_cannot_be_signed_with",
    ),
    Guard(
        "the length of a body that is kept, told",
        _KEPT,
        "if exchange.head.body > self._limit:",
        "if False:",
        f"{_TEST_KEPT}test_s10_what_is_not_kept_is_refused_and_nothing_leaves",
    ),
    Guard(
        "the length of a body that is kept, counted",
        _KEPT,
        "if exchange.bytes_up > self._limit:",
        "if False:",
        f"{_TEST_KEPT}test_s10_what_is_not_kept_is_refused_and_nothing_leaves",
    ),
    Guard(
        "the route's limit on a body that is kept",
        _KEPT,
        "if exchange.max_body_bytes is not None and exchange.bytes_up > exchange.max_body_bytes:",
        "if False:",
        f"{_TEST_KEPT}test_s10_what_is_not_kept_is_refused_and_nothing_leaves",
    ),
    Guard(
        "a sandbox's share of what is kept",
        _KEPT,
        "if share.is_over or share.held + len(payload) > share.limit:",
        "if False:",
        f"{_TEST_KEPT}test_t6_a_sandbox_that_keeps_too_much_is_refused_what_is_over",
    ),
)

# --- no byte of a value begins a line (C4, S1) -----------------------------------------------------------------------

_LINE_ENDS: Final = (
    Guard(
        "CR, LF and NUL in a secret",
        "sallyport/secret.py",
        "        if character in text:\n",
        "        if False:\n",
        "tests/sallyport/test_secret.py::test_c4_what_cannot_be_a_secret",
    ),
    Guard(
        "control characters in a secret",
        "sallyport/secret.py",
        "    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):\n",
        "    if False:\n",
        "tests/sallyport/test_secret.py::test_c4_what_cannot_be_a_secret",
    ),
    Guard(
        "secrets beyond latin-1",
        "sallyport/secret.py",
        "    if any(ord(character) > 0xFF for character in text):\n",
        "    if False:\n",
        "tests/sallyport/test_secret.py::test_c4_what_cannot_be_a_secret",
    ),
    Guard(
        "secrets of files and variables",
        "gateway/credentials.py",
        "reason = why_unusable(text)",
        "reason = None",
        "tests/gateway/test_credentials.py::test_c4_a_file_that_holds_no_usable_secret",
    ),
    Guard(
        "secrets of a control plane",
        "control_client/credentials.py",
        "reason = why_unusable(text)",
        "reason = None",
        "tests/control_client/test_credentials.py::test_c4_a_value_that_cannot_stand_in_a_header",
    ),
    Guard(
        "header values of a plan",
        "sallyport/plan/fields.py",
        "if _FIELD_VALUE.fullmatch(value) is None:",
        "if False:",
        "tests/sallyport/plan/test_fields.py::test_other_header_values_are_refused",
    ),
    Guard(
        "header names of a plan",
        "sallyport/plan/fields.py",
        "if lowered in _RESERVED_HEADERS or lowered.startswith(_RESERVED_PREFIXES):",
        "if lowered.startswith(_RESERVED_PREFIXES):",
        "tests/sallyport/plan/test_fields.py::test_framing_and_routing_headers_are_not_injected",
    ),
    Guard(
        "control bytes and bare line ends in a head",
        "sallyport/wire/http1/scan.py",
        "if head.translate(None, TEXT) != CRLF * (len(lines) - 1):",
        "if False:",
        f"{_WIRE}http1/test_codec.py::test_s1_refused",
    ),
    Guard(
        "control bytes and bare line ends in trailers",
        "sallyport/wire/http1/codec.py",
        "if block.translate(None, TEXT) != CRLF * (len(rows) - 1):",
        "if False:",
        f"{_WIRE}http1/test_codec.py::test_s2_malformed_trailers_are_refused",
    ),
)

# --- placeholders (C5) -----------------------------------------------------------------------------------------------

_PLACEHOLDERS: Final = (
    Guard(
        "placeholders left in an injected head",
        "gateway/core/upstream_head.py",
        "            raise PlaceholderLeft\n",
        "            pass\n",
        f"{_CORE}test_upstream_head.py::test_c5_c6_a_placeholder_in_another_part_is_refused",
    ),
    Guard(
        "placeholders of another route",
        _ROUTE_TABLE,
        "Placeholders({value for route in self.routes.values() for value, _ in route.placeholders})",
        "Placeholders({value for route in list(self.routes.values())[:1] for value, _ in route.placeholders})",
        f"{_CORE}test_route_table.py::test_c5_a_placeholder_of_any_route_is_found",
    ),
    Guard(
        "placeholders left in trailers",
        "gateway/request_body.py",
        'if trailers and exchange.table is not None and exchange.table.holds_placeholder(b"\\r\\n".join(trailers)):',
        "if False:",
        "tests/gateway/test_serve.py::test_c5_a_placeholder_that_no_route_replaces_never_leaves",
    ),
    Guard(
        "placeholders only in the parts named",
        "gateway/core/inject/placeholder.py",
        '        if "header" not in self._parts:\n            return lines\n',
        "",
        f"{_CORE}inject/test_placeholder.py::test_c6_other_parts_are_left_alone",
    ),
)

# --- decisions (contracts section 1) ---------------------------------------------------------------------------------

_MATCH: Final = "sallyport/plan/match.py"
_TEST_MATCH: Final = "tests/sallyport/plan/test_match.py::"
_PATHS: Final = "sallyport/request_path.py"
_TEST_PATHS: Final = "tests/sallyport/test_request_path.py::test_a_path_with_two_readings_is_refused"

_DECISIONS: Final = (
    Guard(
        "cleartext refusal",
        _MATCH,
        "return answer.over_cleartext if self._is_cleartext else answer",
        "return answer",
        f"{_TEST_MATCH}test_cleartext_is_refused_unless_the_route_allows_it",
    ),
    Guard(
        "a query of any number of parameters",
        "gateway/core/upstream_head.py",
        "            check_parameters(query)\n",
        "",
        "tests/flow/test_egress_paths.py::test_p9_the_injected_parameter_is_the_only_one_of_its_name",
    ),
    Guard(
        "a query of any number of parameters, signed",
        _SIGNER,
        "    check_parameters(query)\n",
        "",
        "tests/gateway/core/inject/test_aws_sigv4.py::test_s10_a_query_of_more_parameters_than_are_looked_at_is_not_signed",
    ),
    Guard(
        "a path of any number of escapes",
        _PATHS,
        'if path.count("%") > MAX_ESCAPES:',
        "if False:",
        "tests/sallyport/test_request_path.py::test_s10_a_path_of_more_escapes_than_clients_send_is_refused",
    ),
    Guard(
        "names in a query of any number of escapes",
        "gateway/core/inject/query.py",
        'and _VALUE.sub(b"", query).count(b"%") > MAX_ESCAPES',
        "and False",
        f"{_CORE}inject/test_query.py::test_p9_s10_more_escapes_in_names_than_are_read_are_refused",
    ),
    Guard(
        "a signed path of any number of segments",
        _SIGNER,
        'if path.count(b"/") > MAX_SEGMENTS:',
        "if False:",
        "tests/gateway/core/inject/test_aws_sigv4.py::test_s10_a_path_of_more_segments_than_any_key_has_is_refused",
    ),
    Guard(
        "an escape with two readings",
        _MATCH,
        "if read != path and not self._answers_both(method, upper, read, answer):",
        "if False:",
        f"{_TEST_MATCH}test_an_escape_never_changes_who_answers",
    ),
    Guard(
        "an escape and a slash together",
        _MATCH,
        'read.replace("%2F", "/")',
        'path.replace("%2F", "/")',
        f"{_TEST_MATCH}test_an_escape_never_changes_who_answers",
    ),
    Guard(
        "a rule written with escapes",
        _MATCH,
        "        index.put_unescaped(rule, answer)",
        "        pass",
        f"{_TEST_MATCH}test_an_escape_never_changes_who_answers",
    ),
    Guard(
        "a link and waiters that were cancelled",
        "gateway/upstream.py",
        """            if not kept.done():
                kept.set_result(link)
                return
""",
        """            if kept.done():
                return self.release(link)
            return kept.set_result(link)
""",
        "tests/gateway/test_upstream.py::test_s10_a_link_goes_by_any_number_of_waiters_that_were_cancelled",
    ),
    Guard(
        "a link that is lost as its handshake ends",
        "gateway/upstream.py",
        "        if link.transport.is_closing():  # its end",
        "        if link.address is None:  # its end",
        "tests/gateway/test_upstream.py::test_a_link_that_is_lost_as_the_handshake_ends_is_given_to_nobody",
    ),
    Guard(
        "cleartext inside a CONNECT",
        "gateway/interception.py",
        'destination = Destination("http", self._destination.host, self._destination.port)',
        "destination = self._destination",
        "tests/gateway/test_interception.py::test_a1_cleartext_inside_is_an_http_request",
    ),
    Guard(
        "cleartext inside a tunnel's CONNECT",
        "gateway/tunnel_stream.py",
        "        if declared.is_cleartext:\n",
        "        if False:\n",
        "tests/gateway/test_tunnel_stream.py::test_a1_cleartext_inside_is_an_http_request",
    ),
    Guard(
        "an http baseUrl",
        "sallyport/plan/model.py",
        'if upstream is not None and upstream.destination.scheme == "http" and not allowed:',
        "if False:",
        "tests/sallyport/plan/test_model.py::test_a_route_is_strict",
    ),
    Guard(
        "managed passthrough is the plan's to allow",
        "gateway/core/classify.py",
        'elif table.plan.egress.managed_passthrough == "allow":',
        "elif True:",
        f"{_CORE}test_classify.py::test_a_managed_host_passes_unseen_only_where_plan_and_operator_agree",
    ),
    Guard(
        "deny rules for opaque bytes",
        "gateway/core/classify.py",
        "may_pass = answer.kind is not AnswerKind.DENY or answer.rule is None",
        "may_pass = True",
        f"{_CORE}test_classify.py::test_a_deny_rule_holds_for_opaque_bytes_too",
    ),
    Guard(
        "a mode that sandboxd chose",
        "gateway/core/classify.py",
        "    if ours is Mode.INTERCEPTED:\n        return Mode.INTERCEPTED\n",
        "    if declared.mode is Mode.INTERCEPTED:\n        return Mode.INTERCEPTED\n",
        f"{_CORE}test_classify.py::test_a_declared_mode_of_an_unmanaged_host",
    ),
    Guard(
        "TRACE",
        "gateway/core/classify.py",
        'if method.upper() == "TRACE":',
        "if False:",
        f"{_CORE}test_classify.py::test_c3_trace_is_405_in_any_case_and_whatever_the_plan_says",
    ),
    Guard(
        "the path that is matched is sent",
        "gateway/core/classify.py",
        '        path = canonical.encode("ascii")\n',
        "",
        f"{_CORE}test_classify.py::test_p2_what_is_matched_is_what_is_sent",
    ),
    Guard(
        "ties of routes",
        "sallyport/plan/ties.py",
        "if holder != index and (holder, index) not in ties:",
        "if False:",
        "tests/sallyport/plan/test_ties.py::test_a_tie_shows_a_request_that_both_claim",
    ),
    Guard(
        "a tie of allow and deny",
        _MATCH,
        'sorted(rules, key=lambda rule: rule.action != "deny")',
        "rules",
        f"{_TEST_MATCH}test_a_tie_of_allow_and_deny_is_deny",
    ),
    Guard(
        "a deny rule over a route",
        _MATCH,
        "            if otherwise.is_deny_rule:\n                return otherwise\n",
        "",
        f"{_TEST_MATCH}test_deny_rule_over_route_over_allow_rule_over_default",
    ),
    Guard(
        "a deny rule of a whole host over its routes",
        _MATCH,
        "        if self._default.is_deny_rule:\n            self._routes = ()\n",
        "",
        f"{_TEST_MATCH}test_a_rule_that_denies_the_whole_host_outweighs_its_routes",
    ),
    Guard(
        "the longer wildcard before the shorter",
        "sallyport/plan/precedence.py",
        '        patterns.append(f"*.{rest}")\n',
        '        patterns.insert(1, f"*.{rest}")\n',
        f"{_TEST_MATCH}test_precedence",
    ),
    Guard(
        "a listed port before the default",
        "sallyport/plan/precedence.py",
        "ports = (port, None) if by_default else (port,)",
        "ports = (None, port) if by_default else (port,)",
        f"{_TEST_MATCH}test_precedence",
    ),
    Guard(
        "the longer prefix before the shorter",
        "sallyport/plan/precedence.py",
        "            if found is not None:\n",
        "            if found is not None and answer is None:\n",
        f"{_TEST_MATCH}test_precedence",
    ),
    Guard(
        "another port than the route's",
        _MATCH,
        "by_default=port == DEFAULT_PORTS[scheme]",
        "by_default=True",
        f"{_TEST_MATCH}test_another_port_than_the_listed_one_gets_no_credential",
    ),
    Guard(
        "a lone wildcard in a route",
        "sallyport/plan/fields.py",
        "if pattern.kind is HostPatternKind.ANY:",
        "if False:",
        "tests/sallyport/plan/test_model.py::test_a_route_is_strict",
    ),
    Guard(
        "what is below a name, and not what ends like it",
        "sallyport/host.py",
        'return host.endswith(f".{self.value}")',
        "return host.endswith(self.value)",
        "tests/sallyport/test_host.py::test_a_pattern_matches_whole_labels",
    ),
    Guard(
        "an encoded slash that changes who answers",
        _MATCH,
        'if not self._answers_both(method, upper, read.replace("%2F", "/"), answer):',
        "if False:",
        f"{_TEST_MATCH}test_an_encoded_slash_never_changes_who_answers",
    ),
    Guard(
        "a method in lower case that changes who answers",
        _MATCH,
        "if upper != method and self._walk(upper, path) is not answer:",
        "if False:",
        f"{_TEST_MATCH}test_a_method_in_lower_case_never_changes_who_answers",
    ),
    Guard(
        "a method in lower case and a path with two readings together",
        _MATCH,
        " and (upper == method or self._walk(upper, path) is answer)",
        "",
        f"{_TEST_MATCH}test_p3_a_method_and_a_path_read_otherwise_together_never_change_who_answers",
    ),
    Guard("dot segments", _PATHS, "if dot_segment.search(canonical) is not None:", "if False:", _TEST_PATHS),
    Guard("an encoded backslash", _PATHS, "|5[Cc])", ")", _TEST_PATHS),
    Guard("encoded controls", _PATHS, "|[01].|7[Ff]", "", _TEST_PATHS),
    Guard("raw bytes in a path", _PATHS, "    if forbidden is not None:\n", "    if False:\n", _TEST_PATHS),
)

# --- addresses (H6 to H8, H10) ---------------------------------------------------------------------------------------

_POLICY: Final = "sallyport/address_policy.py"
_TEST_POLICY: Final = "tests/sallyport/test_address_policy.py::"
_DIAL: Final = "sallyport/net/dial.py"
_TEST_DIAL: Final = "tests/sallyport/net/test_dial.py::"
_RESOLVE: Final = "sallyport/net/resolve.py"
_TEST_RESOLVE: Final = "tests/sallyport/net/test_resolve.py::"
_RANGES: Final = (
    ("10.0.0.0/8", "PRIVATE"),
    ("172.16.0.0/12", "PRIVATE"),
    ("192.168.0.0/16", "PRIVATE"),
    ("100.64.0.0/10", "SHARED"),
    ("127.0.0.0/8", "LOOPBACK"),
    ("169.254.0.0/16", "LINK_LOCAL"),
    ("192.0.2.0/24", "DOCUMENTATION"),
    ("198.18.0.0/15", "BENCHMARKING"),
    ("224.0.0.0/4", "MULTICAST"),
    ("240.0.0.0/4", "RESERVED"),
    ("::1/128", "LOOPBACK"),
    ("100::/64", "DISCARD_ONLY"),
    ("2002::/16", "TRANSITION"),
    ("fc00::/7", "UNIQUE_LOCAL"),
    ("fe80::/10", "LINK_LOCAL"),
    ("fec0::/10", "SITE_LOCAL"),
    ("ff00::/8", "MULTICAST"),
)
_METADATA: Final = ("169.254.169.0/24", "169.254.170.0/24", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::/32")

_ADDRESSES: Final = (
    *(
        Guard(
            f"range {network}",
            _POLICY,
            f'("{network}", AddressClass.{kind})',
            f'("{network}", AddressClass.PUBLIC)',
            f"{_TEST_POLICY}test_h6_every_range_has_its_reason",
        )
        for network, kind in _RANGES
    ),
    *(
        Guard(
            f"metadata {network}",
            _POLICY,
            f'("{network}", AddressClass.METADATA)',
            f'("{network}", AddressClass.PRIVATE)',
            f"{_TEST_POLICY}test_h7_metadata_is_refused_even_when_everything_is_allowed",
        )
        for network in _METADATA
    ),
    Guard(
        "metadata though allowed",
        _POLICY,
        "if any(kind is AddressClass.METADATA for _, kind in readings):",
        "if False:",
        f"{_TEST_POLICY}test_h7_metadata_is_refused_even_when_everything_is_allowed",
    ),
    Guard(
        "metadata by name",
        _DIAL,
        "    if is_metadata_host(host):\n",
        "    if False:\n",
        f"{_TEST_DIAL}test_refused_before_anything_is_looked_up_or_connected",
    ),
    Guard(
        "the gateway's own listeners, by the policy",
        _POLICY,
        "if any(self._is_own(address, kind, port) for address, kind in readings):",
        "if False:",
        f"{_TEST_POLICY}test_own_listeners_are_refused_even_when_everything_is_allowed",
    ),
    Guard(
        "the gateway's own listeners, told to the policy",
        "gateway/assembly.py",
        "        own=own,\n        connect_to=",
        "        connect_to=",
        "tests/gateway/test_proxy_listener.py::test_h10_the_gateway_s_own_listeners_are_never_reached",
    ),
    Guard(
        "a wildcard listener on loopback",
        _POLICY,
        'not self.own.isdisjoint({("0.0.0.0", port), ("::", port)})',
        "False",
        f"{_TEST_POLICY}test_a_wildcard_listener_covers_every_loopback_address",
    ),
    *(
        Guard(
            f"addresses inside {network}",
            _POLICY,
            f'    IPv6Network("{network}"),',
            "",
            f"{_TEST_POLICY}test_h6_every_range_has_its_reason",
        )
        for network in ("::ffff:0:0/96", "64:ff9b::/96")
    ),
    Guard(
        "addresses inside 6to4",
        _POLICY,
        "    if address.sixtofour is not None:\n",
        "    if False:\n",
        f"{_TEST_POLICY}test_h6_a_carrying_address_needs_both_itself_and_what_it_carries",
    ),
    Guard(
        "zone ids",
        _POLICY,
        'if str(address) != ip or "%" in ip:',
        "if str(address) != ip:",
        f"{_TEST_POLICY}test_h6_only_canonical_addresses_are_judged",
    ),
    Guard(
        "every answer is checked",
        _DIAL,
        "        await self._check_every(addresses, port, policy)\n",
        "        await self._check_every(addresses[:1], port, policy)\n",
        f"{_TEST_DIAL}test_one_refused_answer_refuses_all_h8",
    ),
    Guard(
        "more answers than are tried are checked",
        _DIAL,
        "        await self._check_every(addresses, port, policy)\n",
        "        await self._check_every(addresses[: self._max_attempts], port, policy)\n",
        f"{_TEST_DIAL}test_more_answers_than_attempts_are_still_all_checked_h8",
    ),
    Guard(
        "an answer of thousands of addresses",
        _RESOLVE,
        "elif (count := len(lookup.result())) > MAX_ADDRESSES:",
        "elif (count := 0) > MAX_ADDRESSES:",
        f"{_TEST_RESOLVE}test_t5_an_answer_of_too_many_addresses_is_refused_as_a_whole_and_remembered",
    ),
    Guard(
        "no answer is kept for longer than it holds",
        _RESOLVE,
        " or known[next(iter(known))][0] <= now):",
        "):",
        f"{_TEST_RESOLVE}test_t5_what_has_expired_is_dropped_when_something_new_is_remembered",
    ),
    Guard(
        "the address that was checked is dialled",
        _DIAL,
        "return interleave_families(addresses)[: self._max_attempts]",
        "return (host,)",
        f"{_TEST_DIAL}test_rebinding_never_reaches_the_private_address_h8",
    ),
    Guard(
        "no name is looked up behind the check",
        _DIAL,
        "flags=socket.AI_NUMERICHOST",
        "flags=0",
        f"{_TEST_DIAL}test_a_name_that_gets_behind_the_check_is_not_looked_up_h8",
    ),
    Guard(
        "one spelling of a number",
        "sallyport/host.py",
        '    if _NUMBER.fullmatch(name.rpartition(".")[2]) is None:\n        return name\n',
        "    if True:\n        return name\n",
        "tests/sallyport/test_host.py::test_an_ambiguous_host_is_refused",
    ),
)

# --- loops, and what is our own (docs/decisions/0011-loops.md) --------------------------------------------------------

_OWN_PLACES: Final = "sallyport/net/own_places.py"
_TEST_OWN_PLACES: Final = "tests/sallyport/net/test_own_places.py::"
_ON_A_WILDCARD: Final = f"{_TEST_OWN_PLACES}test_a_listener_on_a_wildcard_is_refused_at_every_address_of_the_machine"
_PROXY_CONNECT: Final = "sallyport/net/proxy_connect.py"
_TEST_PROXY_CONNECT: Final = "tests/sallyport/net/test_proxy_connect.py::"
_NO_TUNNEL: Final = f"{_TEST_DIAL}test_proxy_that_does_not_open_a_tunnel_is_refused"
_NEVER_A_TUNNEL: Final = f"{_TEST_PROXY_CONNECT}test_malformed_proxy_head_is_never_a_tunnel"

_LOOPS: Final = (
    Guard(
        "the mark on what another proxy is asked",
        _PROXY_CONNECT,
        r'\r\nHost: %b\r\n%b\r\n\r\n" % (authority, authority, _MARKED)',
        r'\r\nHost: %b\r\n\r\n" % (authority, authority)',
        "tests/gateway/test_upstream.py::test_every_link_goes_through_the_proxy_by_connect",
    ),
    Guard(
        "the mark, at a gateway",
        "sallyport/wire/http1/shape.py",
        'return FieldKind.OURS if lower.startswith(b"sallyport-") else FieldKind.PLAIN',
        "return FieldKind.PLAIN",
        "tests/sallyport/wire/http1/test_shape.py::test_s1_a3_a_request_s_names_that_say_two_things_are_refused",
    ),
    Guard(
        "the mark, at sandboxd",
        "sandboxd/core/intake.py",
        "return name.startswith(_OURS) and name != HOP_MARKER",
        "return name.startswith(_OURS)",
        "tests/sandboxd/core/test_intake.py::test_a_head_that_is_refused",
    ),
    Guard(
        "a wildcard listener at every address of the machine",
        _OWN_PLACES,
        "if port in self._ports_everywhere or any(map(self._is_local, theirs)):",
        "if any(map(self._is_local, theirs)):",
        _ON_A_WILDCARD,
    ),
    Guard(
        "a control plane on this machine at every address of it",
        _OWN_PLACES,
        "if port in self._ports_everywhere or any(map(self._is_local, theirs)):",
        "if port in self._ports_everywhere:",
        f"{_TEST_OWN_PLACES}test_a_named_place_on_this_machine_is_refused_at_every_address_of_it",
    ),
    Guard(
        "what an address of our own carries",
        _OWN_PLACES,
        "            yield from carried_addresses(address)\n",
        "            yield address\n",
        _ON_A_WILDCARD,
    ),
    Guard(
        "where our own names lead",
        _OWN_PLACES,
        "own = self._listeners.union((address, port) for address in theirs)",
        "own = self._listeners",
        f"{_TEST_OWN_PLACES}test_a_named_place_is_ours_wherever_its_name_leads_now",
    ),
    Guard(
        "our own by name",
        _DIAL,
        "        if self._own.hold(host, port):\n",
        "        if False:\n",
        f"{_TEST_DIAL}test_through_an_upstream_proxy_what_is_ours_is_refused_too",
    ),
    Guard(
        "the right side of connect_to, by name",
        _DIAL,
        "        host, port = self._connect_to.get((host, port), (host, port))\n"
        "        host = self._usable_name(host, port)\n",
        "        host, port = self._connect_to.get((host, port), (host, port))\n",
        f"{_TEST_DIAL}test_connect_to_through_an_upstream_proxy_leads_nowhere_by_name_either",
    ),
    Guard(
        "our own, asked at every dial",
        _DIAL,
        "policy = dataclasses.replace(policy, own=policy.own | self._own.among(addresses, port))",
        "pass",
        f"{_TEST_DIAL}test_the_control_plane_is_refused_by_its_name_by_other_names_and_by_address",
    ),
    Guard(
        "our own names, looked up at every dial",
        _DIAL,
        "        self._own.learn(host, addresses)\n",
        "        self._own.knows(host) or self._own.learn(host, addresses)\n",
        f"{_TEST_DIAL}test_a_control_plane_that_moves_is_refused_where_it_is_now",
    ),
    Guard(
        "our own names, before they were ever resolved",
        _DIAL,
        "            if not self._own.knows(host):\n",
        "            if False:\n",
        f"{_TEST_DIAL}test_before_the_control_plane_s_name_was_ever_resolved_nothing_is_dialled_at_its_port",
    ),
    Guard(
        "an address that a proxy is asked for",
        _DIAL,
        "                await self._check_every((host,), port, self._policy)\n",
        "                pass\n",
        f"{_TEST_DIAL}test_refused_before_anything_is_looked_up_or_connected",
    ),
    Guard(
        "a proxy's own machine",
        _DIAL,
        "            elif is_loopback_name(host):\n",
        "            elif False:\n",
        f"{_TEST_DIAL}test_an_upstream_proxy_is_not_asked_for_its_own_machine",
    ),
    Guard(
        "a proxy that is ours",
        _DIAL,
        "addresses = await self._checked_addresses(proxy.host, proxy.port, self._proxy_policy, OPERATOR)",
        "addresses = await self._resolver.resolve(proxy.host, self._resolve_timeout_seconds)",
        f"{_TEST_DIAL}test_an_upstream_proxy_that_is_ours_is_not_asked",
    ),
    Guard("a proxy's status", _PROXY_CONNECT, "if status != 200:", "if status >= 300:", _NO_TUNNEL),
    Guard(
        "a proxy's head without end",
        _PROXY_CONNECT,
        "if end > _MAX_HEAD_BYTES or (end < 0 and len(received) > _MAX_HEAD_BYTES):",
        "if end > _MAX_HEAD_BYTES:",
        f"{_TEST_PROXY_CONNECT}test_a_proxy_s_head_has_a_limit",
    ),
    Guard(
        "a proxy's long head that is here whole",
        _PROXY_CONNECT,
        "if end > _MAX_HEAD_BYTES or (end < 0 and len(received) > _MAX_HEAD_BYTES):",
        "if end < 0 and len(received) > _MAX_HEAD_BYTES:",
        f"{_TEST_PROXY_CONNECT}test_a_proxy_s_head_has_a_limit",
    ),
    Guard(
        "a proxy's fields",
        _PROXY_CONNECT,
        "if status is None or not all(map(_FIELD_LINE.fullmatch, field_lines)):",
        "if status is None:",
        _NEVER_A_TUNNEL,
    ),
    Guard(
        "a proxy that does not speak HTTP/1",
        _PROXY_CONNECT,
        'if not b"HTTP/1.".startswith(received[:7]):',
        "if False:",
        f"{_TEST_PROXY_CONNECT}test_any_other_answer_fails_and_says_why",
    ),
    Guard(
        "a proxy whose answer is not waited for",
        _DIAL,
        "            except BaseException:\n                transport.abort()\n                raise\n",
        "            except BaseException:\n                raise\n",
        f"{_TEST_DIAL}test_a_proxy_that_is_not_waited_for_is_left",
    ),
)

# --- whose it is (T1) ------------------------------------------------------------------------------------------------

_TOKENS: Final = "gateway/tokens.py"
_TEST_TOKENS: Final = "tests/gateway/test_tokens.py::"
_CLAIMS: Final = "sallyport/claims.py"
_TEST_CLAIMS: Final = "tests/sallyport/test_claims.py::"
_STREAM: Final = "gateway/stream.py"

_TOKEN_CHECKS: Final = (
    Guard(
        "the signature",
        _TOKENS,
        "if not ALGORITHMS[algorithm].verify(parts.signing_input, key.public_key, parts.signature):",
        "if False:",
        f"{_TEST_TOKENS}test_t1_foreign_key_and_foreign_key_offered_in_the_header",
    ),
    Guard(
        "configured algorithms alone",
        _TOKENS,
        "if not isinstance(algorithm, str) or algorithm not in self._algorithms:",
        "if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:",
        f"{_TEST_TOKENS}test_t1_an_algorithm_that_a_key_knows_and_nobody_configured",
    ),
    Guard(
        "algorithms of the key alone",
        _TOKENS,
        "if algorithm not in key.algorithms:",
        "if False:",
        f"{_TEST_TOKENS}test_t1_key_confusion_across_public_key_types",
    ),
    Guard(
        "no shared key",
        "gateway/keys.py",
        'if kind == "oct" or not _JWK_PRIVATE_MEMBERS.isdisjoint(jwk):',
        "if False:",
        "tests/gateway/test_keys.py::test_one_bad_key_refuses_the_set",
    ),
    Guard(
        "keys for another use",
        "gateway/keys.py",
        'jwk.get("use", "sig") != "sig" or ',
        "",
        "tests/gateway/test_keys.py::test_keys_not_meant_for_this_are_passed_over",
    ),
    Guard(
        "kid",
        "gateway/keys.py",
        "key = None if key_id is None else self._keys.get(key_id)",
        "key = self._keys.get(key_id or '', next(iter(self._keys.values())))",
        f"{_TEST_TOKENS}test_t1_unknown_kid",
    ),
    Guard(
        "iss",
        _CLAIMS,
        'if _text(payload, "iss") != issuer:',
        "if False:",
        f"{_TEST_CLAIMS}test_t1_other_issuer",
    ),
    Guard(
        "aud",
        _CLAIMS,
        'if _text(payload, "aud") != audience:',
        "if False:",
        f"{_TEST_CLAIMS}test_t1_other_audience",
    ),
    Guard(
        "exp",
        _CLAIMS,
        "if now >= claims.expires_at:",
        "if False:",
        f"{_TEST_CLAIMS}test_t1_expired_to_the_second_whatever_the_leeway",
    ),
    Guard(
        "nbf",
        _CLAIMS,
        "if now + leeway_seconds < claims.not_before:",
        "if False:",
        f"{_TEST_CLAIMS}test_t1_not_yet_valid_beyond_the_leeway",
    ),
    Guard(
        "iat",
        _CLAIMS,
        "if now + leeway_seconds < claims.issued_at:",
        "if False:",
        f"{_TEST_CLAIMS}test_t1_not_yet_valid_beyond_the_leeway",
    ),
    Guard(
        "one spelling of base64url",
        "sallyport/wire/compact_token.py",
        'if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode("ascii"):',
        "if False:",
        f"{_TEST_TOKENS}test_t1_bad_base64_and_bad_shape",
    ),
    Guard(
        "critical extensions",
        "sallyport/wire/compact_token.py",
        'if "crit" in header:',
        "if False:",
        f"{_TEST_TOKENS}test_t1_critical_extensions",
    ),
    Guard(
        "expiry of a token that is remembered",
        _TOKENS,
        "        check_instant(claims, now=now, leeway_seconds=self._leeway_seconds)\n",
        "",
        f"{_TEST_TOKENS}test_the_cache_looks_at_not_before_again_when_the_clock_was_set_back",
    ),
    Guard(
        "revocation of a token that is remembered",
        _TOKENS,
        "if self.revocations.cover(claims, now):",
        "if False:",
        f"{_TEST_TOKENS}test_revocation_reaches_cached_tokens_and_open_streams_and_ends",
    ),
    Guard(
        "a key that was withdrawn",
        _TOKENS,
        "            self._cache.clear()\n",
        "",
        f"{_TEST_TOKENS}test_a_withdrawn_key_takes_its_cached_tokens_along",
    ),
    Guard(
        "expiry and revocation on every request",
        _STREAM,
        "if claims.expires_at <= wall or (revocations.any and revocations.cover(claims, wall)):",
        "if False:",
        "tests/gateway/test_stream.py::test_t1_a_revoked_sandbox_is_refused_on_its_next_request",
    ),
    Guard(
        "the token of every request",
        _STREAM,
        "if claims is None or value != self._proven:",
        "if claims is None:",
        "tests/gateway/test_stream.py::test_t1_a_stream_that_was_proven_needs_its_token_on_every_request",
    ),
    Guard(
        "a stream that was proven needs its token",
        _STREAM,
        "            if value is None:\n",
        "            if value is None and claims is not None:\n                return claims\n"
        "            if value is None:\n",
        "tests/gateway/test_stream.py::test_t1_a_stream_that_was_proven_needs_its_token_on_every_request",
    ),
    Guard(
        "a renewed token is of the same sandbox",
        "gateway/tunnel_host.py",
        "if (claims.sandbox_id, claims.organization_id) != (before.sandbox_id, before.organization_id):",
        "if False:",
        "tests/gateway/test_tunnel_host.py::test_a_renewal_that_fails_leaves_the_tunnel_as_it_is",
    ),
    Guard(
        "a plan is of the sandbox it was sent to",
        "gateway/plan_holder.py",
        "if sandbox_id is not None and table.sandbox_id != sandbox_id:",
        "if False:",
        "tests/gateway/test_plan_holder.py::test_a_plan_for_another_sandbox_is_refused",
    ),
    Guard(
        "who waits for a foreign plan",
        "gateway/running.py",
        "                stream.turn_away()\n",
        "                stream.revoke()\n",
        "tests/flow/test_tenancy.py::test_t1_who_waits_for_a_plan_that_is_another_organization_s_is_407",
    ),
    Guard(
        "what came ahead of its turn",
        "gateway/core/plan_turns.py",
        "return change < self._ahead.get(sandbox_id, 0)",
        "return False",
        f"{_CORE}test_plan_turns.py::test_what_is_void_before_its_turn_and_while_it_is_worked_on",
    ),
)

# --- what is kept for one is not given to another (C8, C12) ----------------------------------------------------------

_TENANTS: Final = "tests/sim/test_tenants.py::test_c12_organizations_never_cross"
_POOL_KEY: Final = "PoolKey(organization_id, owner, destination.scheme, destination.host, destination.port)"

_KEYS: Final = (
    *(
        Guard(
            f"pool key: {part}",
            _ROUTE_TABLE,
            _POOL_KEY,
            _POOL_KEY.replace(part, nothing),
            f"{_CORE}test_route_table.py::test_c12_links_are_shared_only_where_everything_is_equal",
        )
        for part, nothing in (
            ("organization_id", '""'),
            ("owner", "()"),
            ("destination.scheme", '""'),
            ("destination.host", '""'),
            ("destination.port", "0"),
        )
    ),
    Guard(
        "pool key: connections",
        _ROUTE_TABLE,
        '("connections", *self.connection_ids)',
        '("connections",)',
        f"{_CORE}test_route_table.py::test_c12_links_are_shared_only_where_everything_is_equal",
    ),
    Guard(
        "pool key: the sandbox where none is carried",
        _ROUTE_TABLE,
        'self.link_owner = ("sandbox", plan.sandbox_id)',
        'self.link_owner = ("sandbox", "")',
        f"{_CORE}test_route_table.py::test_c12_what_carries_no_credential_is_the_sandbox_s_alone",
    ),
    Guard(
        "TLS sessions are their pool key's",
        "gateway/upstream.py",
        "session = self._sessions.pop(link.key, None)",
        "session = self._sessions.popitem()[1] if self._sessions else None",
        "tests/flow/test_tenants_by_tls.py::test_c12_t1_nothing_crosses",
    ),
    Guard(
        "TLS identity",
        "sallyport/net/tls.py",
        "    context = ssl.create_default_context(cafile=ca_file)\n",
        "    context = ssl.create_default_context(cafile=ca_file)\n    context.check_hostname = False\n",
        "tests/gateway/test_upstream.py::test_a4_an_upstream_that_cannot_be_verified_is_never_spoken_to",
    ),
    *(
        Guard(
            f"cache key: {part}",
            _ROUTE_TABLE,
            f"        {part}={value},\n        {following}",
            f'        {part}="",\n        {following}',
            f"{_CORE}test_route_table.py::test_c8_credentials_are_named_by_tuples",
        )
        for part, value, following in (
            ("organization_id", "plan.organization_id", "sandbox_id=plan"),
            ("sandbox_id", "plan.sandbox_id", "binding_id=route"),
            ("binding_id", "route.binding_id", "connection_id=resolver"),
            ("connection_id", "resolver.connection_id", "secret_type=resolver"),
            ("secret_type", "resolver.secret_type", "slot_key=resolver"),
            ("slot_key", "resolver.slot_key", "resolver_key=resolver"),
        )
    ),
    Guard(
        "cache key: resolver_key",
        _ROUTE_TABLE,
        "        resolver_key=resolver.resolver_key,\n",
        "        resolver_key=None,\n",
        f"{_CORE}test_route_table.py::test_c8_credentials_are_named_by_tuples",
    ),
    Guard(
        "cache keys are tuples",
        "gateway/core/credential_cache.py",
        "    resolver_key: str | None\n\n\nclass ResolveRequest",
        "    resolver_key: str | None\n\n"
        '    def __hash__(self) -> int:\n        return hash("_".join(map(str, self)))\n\n'
        "    def __eq__(self, other: object) -> bool:\n        return hash(self) == hash(other)\n\n\n"
        "class ResolveRequest",
        "tests/flow/test_credential_cases.py::"
        "test_c8_names_that_are_alike_once_joined_are_different_credentials[explicit]",
    ),
    Guard(
        "the control plane is asked without the environment's proxies",
        "control_client/session.py",
        "            cookie_jar=aiohttp.DummyCookieJar(),\n",
        "            cookie_jar=aiohttp.DummyCookieJar(),\n            trust_env=True,\n",
        "tests/flow/test_surroundings.py::test_t3_nor_is_the_control_plane_asked_by_it",
    ),
    Guard(
        "an expired credential",
        "gateway/core/credential_cache.py",
        "        if now < entry.usable_until:\n",
        "        if True:\n",
        f"{_CORE}test_credential_cache.py::test_a_value_is_served_until_it_expires_and_never_after",
    ),
    Guard(
        "a credential from before an invalidation",
        "gateway/core/credential_cache.py",
        "if ticket.outdated or usable_until <= now",
        "if usable_until <= now",
        f"{_CORE}test_credential_cache.py::test_a_value_that_was_fetched_before_an_invalidation_is_not_kept",
    ),
    # Once more where they are met: by every byte that two organizations' sandboxes and origins see (tests/sim).
    *(
        Guard(f"in a thousand turns: {what}", file, text, replacement, _TENANTS)
        for what, file, text, replacement in (
            ("whose link", _ROUTE_TABLE, _POOL_KEY, _POOL_KEY.replace("organization_id", '""')),
            (
                "whose credential",
                _ROUTE_TABLE,
                "        organization_id=plan.organization_id,\n        sandbox_id=plan",
                '        organization_id="",\n        sandbox_id=plan',
            ),
            ("whose plan", "gateway/serve.py", "if table.organization_id != claims.organization_id:", "if False:"),
            (
                "whose stream",
                "gateway/stream.py",
                "if claims is None or value != self._proven:",
                "if claims is None:",
            ),
            (
                "whose credential is ready",
                "gateway/serve.py",
                "            if known is not credential:\n                return False\n",
                "",
            ),
            (
                "which head goes out after a 401",
                "gateway/serve.py",
                '            self._request_block = b""\n            await',
                "            await",
            ),
        )
    ),
    # Orders about a connection or binding of one organization: its credentials, their end, its streams, its links.
    Guard(
        "whose credentials an order forgets",
        "gateway/core/credential_cache.py",
        "theirs = [key for key in table if organization_id in (None, key.organization_id)]",
        "theirs = list(table)",
        f"{_CORE}test_credential_cache.py::test_c8_an_order_about_one_organization_leaves_what_another_calls_alike",
    ),
    Guard(
        "whose credentials stay refused",
        "gateway/core/credential_cache.py",
        "        named = (kind, identifier, organization_id)\n",
        "        named = (kind, identifier, None)\n",
        f"{_CORE}test_credential_cache.py::test_c8_an_order_about_one_organization_leaves_what_another_calls_alike",
    ),
    Guard(
        "whose streams an order ends",
        "gateway/stream.py",
        "if route is None or organization_id not in (None, route.organization_id):",
        "if route is None:",
        "tests/gateway/test_running.py::test_c8_a_revocation_of_one_organization_leaves_the_other_s_stream_and_link",
    ),
    Guard(
        "whose links an order closes",
        "gateway/running.py",
        "                and organization_id in (None, key.organization_id)\n",
        "",
        "tests/gateway/test_running.py::test_c8_a_revocation_of_one_organization_leaves_the_other_s_stream_and_link",
    ),
    Guard(
        "whose binding the control plane has revoked",
        "control_plane/store/events.py",
        'Revocation.organization_id.in_(("", organization_id))',
        "True",
        "tests/control_plane/test_resolution.py::"
        "test_what_another_organization_has_revoked_by_the_same_id_is_given[sqlite]",
    ),
    Guard(
        "organizations are named to who reads them",
        "control_plane/api/internal.py",
        "write = encode if request.headers.get(WATCH_HEADER) == WATCH_WORD else encode_without_organizations",
        "write = encode",
        "tests/control_plane/test_watch.py::test_a_gateway_that_knows_of_no_organizations_is_told_of_none[sqlite]",
    ),
)

# --- one reading of a message (S1 to S11) ----------------------------------------------------------------------------

_CODEC: Final = "sallyport/wire/http1/codec.py"
_TEST_CODEC: Final = f"{_WIRE}http1/test_codec.py::"
_NO_TRAILER: Final = f"{_TEST_CODEC}test_s2_fields_that_frame_route_or_authenticate_are_no_trailers"
_SHAPE: Final = "sallyport/wire/http1/shape.py"
_BODY: Final = "sallyport/wire/http1/body.py"
_BAD_CHUNKS: Final = f"{_WIRE}http1/test_body.py::test_s2_refused_whole_and_byte_by_byte"
_UPSTREAM: Final = "gateway/upstream.py"
_TEST_UPSTREAM: Final = "tests/gateway/test_upstream.py::"
_EARLY: Final = f"{_TEST_UPSTREAM}test_t6_a_link_that_answers_before_it_has_taken_the_request_carries_no_other"
_STUCK: Final = f"{_TEST_UPSTREAM}test_t6_a_link_whose_upstream_takes_nothing_gives_its_place_back"

_FRAMING: Final = (
    Guard(
        "fields before those that a stream remembers",
        _CODEC,
        " or head.find(CRLF) != begin:",
        ":",
        f"{_TEST_CODEC}test_s1_fields_that_are_nearly_those_of_the_last_head_are_read",
    ),
    Guard(
        "Content-Length with Transfer-Encoding",
        _SHAPE,
        "once = FieldKind.CONTENT_LENGTH if kind is FieldKind.TRANSFER_ENCODING else kind",
        "once = kind",
        f"{_TEST_CODEC}test_s1_refused",
    ),
    Guard(
        "two Content-Lengths",
        _SHAPE,
        '    FieldKind.CONTENT_LENGTH: "more than one Content-Length or Transfer-Encoding",\n',
        "",
        f"{_TEST_CODEC}test_s1_refused",
    ),
    Guard(
        "two Hosts",
        _SHAPE,
        '    FieldKind.HOST: "more than one Host",\n',
        "",
        f"{_TEST_CODEC}test_a3_two_hosts_are_refused",
    ),
    Guard(
        "obs-fold and spaces before the colon",
        _SHAPE,
        "if not name or name.translate(None, TOKEN):",
        "if not name:",
        f"{_TEST_CODEC}test_s1_refused",
    ),
    Guard(
        "underscore twins",
        _SHAPE,
        'if lower in FRAMING_NAMES and b"_" in name:',
        "if False:",
        f"{_TEST_CODEC}test_s1_refused",
    ),
    Guard(
        "fields of ours",
        _SHAPE,
        "if kind is FieldKind.OURS and not is_answer:",
        "if False:",
        f"{_WIRE}http1/test_shape.py::test_s1_a3_a_request_s_names_that_say_two_things_are_refused",
    ),
    Guard(
        "codings but chunked",
        _CODEC,
        'if value.lower() != b"chunked":',
        'if b"chunked" not in value.lower():',
        f"{_TEST_CODEC}test_s1_refused",
    ),
    Guard(
        "lengths but decimal numbers",
        _CODEC,
        "if len(value) > MAX_LENGTH_DIGITS or not value.isdigit():",
        "if len(value) > MAX_LENGTH_DIGITS:",
        f"{_TEST_CODEC}test_s1_refused",
    ),
    Guard(
        "bytes in the target",
        _CODEC,
        'if cut is None and (not target.isascii() or target.find(b"\\t") >= 0):',
        "if False:",
        f"{_TEST_CODEC}test_p5_raw_bytes_in_the_target_are_refused",
    ),
    Guard(
        "HTTP/1.0",
        _CODEC,
        '        if known != "CONNECT":\n',
        "        if False:\n",
        f"{_TEST_CODEC}test_s4_other_versions_are_505",
    ),
    Guard(
        "a coding in HTTP/1.0",
        _CODEC,
        "    if request.minor == 0 and request.body == CHUNKED:\n",
        "    if False:\n",
        f"{_TEST_CODEC}test_s4_a_coding_in_1_0_is_refused",
    ),
    Guard(
        "bodies of interim answers",
        _CODEC,
        "if response.body and (response.status < 200 or response.status == 204):",
        "if False:",
        f"{_TEST_CODEC}test_s11_an_interim_answer_with_a_body_is_refused",
    ),
    Guard(
        "fields that are no trailers",
        _CODEC,
        "if field_kind(name) is not FieldKind.PLAIN or field_name(name) in _NOT_IN_TRAILERS:",
        "if field_kind(name) is not FieldKind.PLAIN:",
        _NO_TRAILER,
    ),
    Guard(
        "fields of this hop are no trailers",
        _CODEC,
        "if field_kind(name) is not FieldKind.PLAIN or field_name(name) in _NOT_IN_TRAILERS:",
        "if field_name(name) in _NOT_IN_TRAILERS:",
        _NO_TRAILER,
    ),
    *(
        Guard(f"{name} is no trailer", _CODEC, f'        b"{name}",\n', "", _NO_TRAILER)
        for name in (
            "authorization",
            "www-authenticate",
            "x-api-key",
            "api-key",
            "private-token",
            "cookie",
            "set-cookie",
        )
    ),
    Guard(
        "trailers are read",
        _BODY,
        "self._trailers = parse_trailers(data[at:end])",
        'self._trailers = data[at:end].split(b"\\r\\n")',
        _BAD_CHUNKS,
    ),
    Guard("a bare LF after a chunk size", _BODY, 'if line[-2:] != b"\\r\\n":', "if False:", _BAD_CHUNKS),
    Guard(
        "the bytes behind a chunk",
        _BODY,
        'if data[at : at + 2] == b"\\r\\n":\n                    self._left = -1',
        "if True:\n                    self._left = -1",
        _BAD_CHUNKS,
    ),
    Guard(
        "the digits of a chunk size",
        _BODY,
        "len(digits) > MAX_CHUNK_DIGITS or digits.translate(None, _HEX):",
        "len(digits) > MAX_CHUNK_DIGITS:",
        _BAD_CHUNKS,
    ),
    Guard(
        "the number of a chunk size's digits",
        _BODY,
        "len(digits) > MAX_CHUNK_DIGITS or digits.translate(None, _HEX):",
        "digits.translate(None, _HEX):",
        _BAD_CHUNKS,
    ),
    Guard(
        "control bytes in a chunk extension",
        _BODY,
        "if extension.translate(None, _EXTENSION_TEXT):",
        "if False:",
        _BAD_CHUNKS,
    ),
    Guard(
        "the length of trailers",
        _BODY,
        "        if len(data) >= limit:\n",
        "        if False:\n",
        f"{_WIRE}http1/test_body.py::test_s2_trailers_have_a_limit",
    ),
    Guard(
        "a link whose answer was over-long",
        "gateway/serve.py",
        "if head is None or head.close or not is_clean or not is_sent or link.is_lost:",
        "if head is None or head.close or not is_sent or link.is_lost:",
        "tests/gateway/test_answer.py::test_s11_bytes_behind_an_answer_reach_nobody",
    ),
    Guard(
        "a link whose request is not all sent",
        "gateway/serve.py",
        "if head is None or head.close or not is_clean or not is_sent or link.is_lost:",
        "if head is None or head.close or not is_clean or link.is_lost:",
        "tests/gateway/test_serve.py::test_a_link_that_has_not_taken_the_request_is_not_used_again",
    ),
    Guard(
        "a share of a connection's links",
        "gateway/core/pool_state.py",
        "        return place.held_by(holder) < left",
        "        return left > 0",
        "tests/gateway/core/test_pool_state.py::test_there_is_a_link_for_who_comes_next",
    ),
    Guard(
        "an idle link beyond a share",
        "gateway/core/pool_state.py",
        "if len(place.links) - len(place.idle) >= self._half_of_key and not self._may_hold(key, place, holder):",
        "if False:",
        "tests/gateway/core/test_pool_state.py::test_an_idle_link_is_not_for_who_has_its_share",
    ),
    Guard(
        "bulk in turns",
        "sallyport/net/bulk_turns.py",
        "            return\n        reads = self.time(take, data)\n        if self.reads >= self._turn_reads:",
        "            return\n        reads = self.time(take, data)\n        if False:",
        "tests/sallyport/net/test_bulk_turns.py::test_one_that_brings_much_waits_for_the_next_turn_when_this_one_is_full",
    ),
    Guard(
        "pipelines of all streams in one line",
        "gateway/stream.py",
        "if begun >= requests or taken > TURN_HEAD_BYTES:",
        "if begun >= TURN_REQUESTS or taken > TURN_HEAD_BYTES:",
        "tests/gateway/test_stream.py::test_t6_of_what_comes_to_many_streams_each_serves_the_first_at_once",
    ),
    Guard(
        "pipelines of sandboxes take turns",
        "gateway/stream.py",
        "self.parts.pipelines.enter(None if self.claims is None else self.claims.sandbox_id, self)",
        "self.parts.pipelines.enter(None, self)",
        "tests/flow/test_limits.py::test_t6_many_pipelines_of_refused_requests_leave_a_neighbour_its_turn",
    ),
    Guard(
        "pipelines of a stream that has ended",
        "gateway/stream.py",
        "        self.parts.pipelines.leave(None if self.claims is None else self.claims.sandbox_id, self)\n",
        "",
        "tests/gateway/test_stream.py::"
        "test_t6_a_stream_that_ends_in_line_leaves_it_and_what_it_had_left_is_never_served",
    ),
    Guard(
        "pipelines of a stream that is closing",
        "gateway/stream.py",
        "if self._exchange is None and not (self._is_detached or self._is_lingering or self.transport.is_closing()):",
        "if self._exchange is None and not (self._is_detached or self._is_lingering):",
        "tests/gateway/test_stream.py::test_t6_a_stream_that_is_closing_serves_nothing_more_when_its_turn_comes",
    ),
    Guard(
        "pipelines wait for their turn whatever is taken",
        "gateway/stream.py",
        "self._is_serving or TURN in self._holds):",
        "self._is_serving):",
        "tests/gateway/test_stream.py::test_t6_a_stream_whose_answers_are_taken_again_keeps_its_place_in_line",
    ),
    Guard(
        "one of a line in a turn of the loop, whatever becomes of it",
        "sallyport/net/turns.py",
        "        self._call_soon(self._next)  # first: whatever becomes of this one, the others have their turns\n",
        "",
        "tests/sallyport/net/test_turns.py::test_a_fault_of_one_stops_nobody_behind_it",
    ),
    Guard(
        "who is held reads nothing where the kernel moves it",
        "sallyport/net/splice.py",
        "reads = self._is_open and not self.waiting and not self._is_held",
        "reads = self._is_open and not self.waiting",
        "tests/sallyport/net/test_splice.py::test_who_is_held_reads_nothing_until_every_reason_is_gone",
    ),
    Guard(
        "nothing is moved after an abort",
        "sallyport/net/splice.py",
        "if self._is_open and (self._source.is_closing() or self._sink.is_closing()):",
        "if False:",
        "tests/sallyport/net/test_splice.py::test_nothing_moves_any_more_between_an_abort_and_what_the_loop_says_of_it",
    ),
    Guard(
        "no more splices than there may be",
        "sallyport/net/splice.py",
        "if len(self._open) < self._limit:",
        "if True:",
        "tests/sallyport/net/test_splice.py::test_as_many_as_there_may_be_and_who_is_quiet_makes_room",
    ),
    Guard(
        "what is searched for a secret is not left to the kernel",
        "sallyport/net/relay.py",
        "if side.filter is None:",
        "if True:",
        "tests/sallyport/net/test_splice.py::test_a_filter_keeps_its_direction",
    ),
    Guard(
        "a link whose upstream has not taken the request",
        "gateway/serve.py",
        "self.is_request_done and not link.transport.get_write_buffer_size()",
        "self.is_request_done and not answer.is_request_held",
        f"{_EARLY}[Content-Length: 2]",
    ),
    Guard(
        "an upstream that ends and has not taken the request",
        _UPSTREAM,
        "        if self.user is None or self.transport.get_write_buffer_size():\n",
        "        if self.user is None:\n",
        f"{_EARLY}[X-Until: close]",
    ),
    Guard(
        "an upstream that ends an idle link and takes nothing",
        _UPSTREAM,
        "        if self.user is None or self.transport.get_write_buffer_size():\n",
        "        if self.user is not None and self.transport.get_write_buffer_size():\n",
        f"{_STUCK}[the upstream ends-http]",
    ),
    Guard(
        "links that close with something unsent",
        _UPSTREAM,
        "        if self.is_fit:\n",
        "        if not self.transport.is_closing():\n",
        f"{_STUCK}[idle for too long-http]",
    ),
    Guard(
        "links that take too long to close",
        _UPSTREAM,
        "            self.due_in(CLOSE_SECONDS)\n",
        "",
        f"{_STUCK}[idle for too long-https]",
    ),
    Guard(
        "a link too many that does not close",
        _UPSTREAM,
        "            link.close()\n",
        "            link.transport.close()\n",
        f"{_STUCK}[enough are idle-http]",
    ),
    Guard(
        "an idle link with something unsent is not used",
        _UPSTREAM,
        "not (self.transport.is_closing() or self.transport.get_write_buffer_size())",
        "not self.transport.is_closing()",
        f"{_TEST_UPSTREAM}test_t6_who_asks_for_a_link_is_not_charged_with_one_whose_upstream_takes_nothing[open]",
    ),
    Guard(
        "the place of an idle link that is not used",
        _UPSTREAM,
        "            link.give_up()\n",
        "",
        f"{_TEST_UPSTREAM}test_t6_who_asks_for_a_link_is_not_charged_with_one_whose_upstream_takes_nothing[closing]",
    ),
    Guard(
        "the place of a link that was waited for",
        _UPSTREAM,
        "            had.give_up()\n",
        "",
        f"{_TEST_UPSTREAM}test_t6_who_waits_for_a_link_dials_where_it_is_given_one_whose_upstream_takes_nothing",
    ),
    Guard(
        "an idle link that is made to write",
        _UPSTREAM,
        "        if self.user is None:\n            self.transport.abort()\n        else:\n",
        "        if self.user is not None:\n",
        f"{_TEST_UPSTREAM}test_t6_an_idle_link_that_has_more_to_write_than_its_upstream_takes_is_spoilt",
    ),
    Guard(
        "bytes on an idle link",
        "gateway/upstream.py",
        "            self.transport.abort()\n            return\n        if len(data) < TIMED_BYTES:",
        "            return\n        if len(data) < TIMED_BYTES:",
        "tests/gateway/test_upstream.py::test_s11_bytes_on_an_idle_link_spoil_it",
    ),
    Guard(
        "a 101 that was not asked for",
        "gateway/serve.py",
        "if self._upgrade is None or head.upgrade is None or head.upgrade.lower() != self._upgrade:",
        "if head.upgrade is None:",
        "tests/gateway/test_serve.py::test_s7_a_101_nobody_asked_for_is_502",
    ),
)

# --- what is this hop's stays here (S5 to S7, A5) --------------------------------------------------------------------

_HOP: Final = (
    Guard(
        "what Connection names",
        _CODEC,
        "if not options.isdisjoint(head.names):",
        "if False:",
        f"{_TEST_CODEC}test_s5_what_connection_names_is_taken_out",
    ),
    Guard(
        "connection options without end",
        _CODEC,
        'if value.count(b",") >= MAX_OPTIONS:',
        "if False:",
        f"{_TEST_CODEC}test_s5_more_connection_options_than_anybody_names_are_refused",
    ),
    Guard(
        "what all lines of Connection name",
        _SHAPE,
        "if len(connections) > 1:\n            hop[",
        "if False:\n            hop[",
        f"{_TEST_CODEC}test_s5_what_connection_names_is_taken_out",
    ),
    Guard(
        "Proxy-*",
        _SHAPE,
        'if lower.startswith(b"proxy-"):',
        "if False:",
        f"{_TEST_CODEC}test_s6_proxy_and_hop_fields_never_go_on",
    ),
    Guard(
        "TE and Keep-Alive",
        "sallyport/wire/http1/head.py",
        '    b"te": FieldKind.HOP,\n',
        "",
        f"{_TEST_CODEC}test_s6_proxy_and_hop_fields_never_go_on",
    ),
    Guard(
        "an Upgrade that Connection does not name",
        _CODEC,
        'if request.upgrade is not None and b"upgrade" not in options:',
        "if False:",
        f"{_TEST_CODEC}test_s7_an_upgrade_is_one_only_with_its_connection_option",
    ),
    Guard(
        "Alt-Svc",
        "gateway/core/downstream_head.py",
        'HIDDEN: Final = frozenset({b"alt-svc", b"x-sallyport-error"})',
        'HIDDEN: Final = frozenset({b"x-sallyport-error"})',
        f"{_CORE}test_downstream_head.py::test_a5_alternative_services_stay_here",
    ),
    Guard(
        "Alt-Svc behind a body",
        "gateway/answer.py",
        "trailers = without_hidden(trailers)",
        "trailers = list(trailers)",
        "tests/gateway/test_answer.py::test_a5_what_a_head_hides_does_not_come_behind_the_body",
    ),
)

# --- one destination (A1 to A3) --------------------------------------------------------------------------------------

_AUTHORITY: Final = "gateway/core/authority.py"
_TEST_AUTHORITY: Final = f"{_CORE}test_authority.py::"

_AGREEMENT: Final = (
    Guard(
        "Host on every request",
        _AUTHORITY,
        "        if host != self._host:\n            check_host(host, destination)\n",
        "        if host != self._host:\n",
        f"{_TEST_AUTHORITY}test_a1_a2_every_request_of_a_stream_is_checked",
    ),
    Guard(
        "Host is the destination's",
        _AUTHORITY,
        "if read_destination(destination.scheme, host) != destination:",
        "if read_destination(destination.scheme, host).scheme != destination.scheme:",
        f"{_TEST_AUTHORITY}test_a1_a_host_that_disagrees_is_421",
    ),
    Guard(
        "an absolute target is the stream's",
        _AUTHORITY,
        "if self.destination is not None and asked != self.destination:",
        "if False:",
        f"{_TEST_AUTHORITY}test_a1_p6_p7_a_target_that_says_two_things_is_refused",
    ),
    Guard(
        "Host after another authority",
        _AUTHORITY,
        "        self._host = _UNREAD  # whatever the Host is, it has to be compared with this destination\n",
        "",
        f"{_TEST_AUTHORITY}test_a2_h2_what_begins_like_the_last_destination_is_another",
    ),
    Guard(
        "Host of a CONNECT",
        _AUTHORITY,
        "if (host, port) != (destination.host, destination.port):",
        "if False:",
        f"{_TEST_AUTHORITY}test_a1_a3_the_host_of_a_connect_that_disagrees",
    ),
    Guard(
        "fragments",
        _AUTHORITY,
        "        if _HASH in origin:\n",
        "        if False:\n",
        f"{_TEST_AUTHORITY}test_a1_p6_p7_a_target_that_says_two_things_is_refused",
    ),
    Guard(
        "the name of a ClientHello, at the explicit listener",
        "gateway/interception.py",
        "if hello.server_name is not None and not _names(hello.server_name, self._destination.host):",
        "if False:",
        "tests/gateway/test_interception.py::test_a1_another_name_is_answered_with_unrecognized_name",
    ),
    Guard(
        "what OpenSSL holds of an intercepted handshake is counted",
        "gateway/interception.py",
        "HANDSHAKE_BYTES if self._is_begun else",
        "0 if self._is_begun else",
        "tests/gateway/test_interception.py::test_t5_handshakes_that_have_begun_count_as_what_openssl_can_hold_of_them",
    ),
    Guard(
        "the name of a ClientHello, at sandboxd",
        "sandboxd/interception.py",
        "if hello.server_name not in (None, self._asked.host):",
        "if False:",
        "tests/sandboxd/test_interception.py::test_a1_another_name_by_sni_gets_an_alert",
    ),
    Guard(
        "the name of a ClientHello, where TLS ends",
        "sallyport/net/interception.py",
        "    context.sni_callback = check_name\n",
        "",
        "tests/sallyport/net/test_interception.py::test_wrong_name_gets_the_alert_a1_h2",
    ),
    Guard(
        "the name of a ClientHello, passed through",
        "gateway/passthrough.py",
        "        if not _is_address(destination.host) or _is_address(name):\n            return False\n",
        "        if not _is_address(destination.host) or _is_address(name):\n            return True\n",
        "tests/gateway/test_passthrough.py::test_a1_another_name_than_the_connect_s_is_reset",
    ),
    Guard(
        "the name of a ClientHello to an address",
        "gateway/passthrough.py",
        "return admit(self._table, name, destination.port, self._parts.passthrough_hosts) is Mode.PASSTHROUGH",
        "return True",
        "tests/gateway/test_passthrough.py::test_a1_to_an_address_a_managed_name_never_passes",
    ),
    Guard(
        "opaque bytes to an address",
        "gateway/passthrough.py",
        "if _is_address(self._destination.host) and self._table.names_hosts:",
        "if False:",
        "tests/gateway/test_passthrough.py::test_a1_to_an_address_silence_is_refused_too",
    ),
    Guard(
        "an address of its CONNECT as the name of a hello",
        "gateway/passthrough.py",
        " or self._repeats_address(hello.server_name):",
        ":",
        "tests/gateway/test_passthrough.py::test_a1_to_an_address_nothing_passes_that_names_no_allowed_host",
    ),
    Guard(
        "another address as the name of a hello",
        "gateway/passthrough.py",
        "if not _is_address(destination.host) or _is_address(name):",
        "if not _is_address(destination.host):",
        "tests/gateway/test_passthrough.py::test_a1_an_address_in_a_hello_is_no_name_and_no_other_address",
    ),
    Guard(
        "two names in a ClientHello",
        "sallyport/wire/client_hello.py",
        '        raise RemoteProtocolError("the ClientHello lists more than one server name")\n',
        "        pass\n",
        f"{_WIRE}test_client_hello.py::test_malformed_hello_is_refused_and_stays_refused",
    ),
    Guard(
        "an extension that stands twice in a ClientHello",
        "sallyport/wire/client_hello.py",
        "        if kind in extensions:\n",
        "        if False:\n",
        f"{_WIRE}test_client_hello.py::test_malformed_hello_is_refused_and_stays_refused",
    ),
    Guard(
        "a declaration stands once",
        "gateway/core/declaration.py",
        "if len(found) != 1:",
        "if not found:",
        f"{_CORE}test_declaration.py::test_it_stands_exactly_once",
    ),
)

# --- the secret does not come back (C3) ------------------------------------------------------------------------------

_SCRUB: Final = "gateway/core/scrub.py"
_FORMS: Final = f"{_CORE}test_scrub.py::test_c3_every_form_is_overwritten_in_place"

_SCRUBBING: Final = (
    Guard(
        "an answer that is here whole",
        "gateway/answer.py",
        "if needles is None or needles.is_clean(whole):",
        "if True:",
        "tests/gateway/test_answer.py::test_c3_an_echoed_secret_is_blanked",
    ),
    Guard(
        "a body as it streams",
        "gateway/answer.py",
        "            payload = self.scrubber.feed(payload)\n",
        "            pass\n",
        "tests/gateway/test_answer.py::test_c3_a_secret_across_every_border",
    ),
    Guard(
        "the head of an answer",
        "gateway/answer.py",
        "        return self.scrubber.scrub_head(block)\n",
        "        return block\n",
        "tests/gateway/test_answer.py::test_c3_an_echoed_secret_is_blanked",
    ),
    Guard(
        "trailers of an answer",
        "gateway/answer.py",
        "if self.scrubber is None or not trailers:",
        "if True:",
        "tests/gateway/test_answer.py::test_c3_a_secret_in_a_trailer_is_blanked",
    ),
    Guard(
        "bytes after a 101",
        "gateway/serve.py",
        "            scrubber=scrubber,\n",
        "            scrubber=None,\n",
        "tests/gateway/test_serve.py::test_s7_bytes_flow_raw_after_a_101_and_the_secret_is_blanked_in_them",
    ),
    Guard(
        "base64",
        _SCRUB,
        "yield from _base64_forms(value)",
        "yield value",
        f"{_CORE}test_scrub.py::test_c3_base64_at_every_offset_loses_all_but_the_shared_bits",
    ),
    Guard("percent", _SCRUB, "yield from _percent_forms(value)", "yield value", _FORMS),
    Guard("JSON", _SCRUB, "yield from _json_forms(value)", "yield value", _FORMS),
    Guard("hex", _SCRUB, '    yield value.hex().encode("ascii")\n', "", _FORMS),
    Guard(
        "the beginning of a match is held",
        _SCRUB,
        "cut = len(buffer) - self.needles.held_suffix(buffer)",
        "cut = len(buffer)",
        f"{_CORE}test_scrub.py::test_every_form_is_found_wherever_it_is_cut",
    ),
    Guard(
        "matches without end are few runs",
        _SCRUB,
        "and behind - at <= size // 2",
        "and False",
        f"{_CORE}test_scrub.py::test_matches_without_end_are_few_runs",
    ),
    Guard(
        "an end of repeated bytes is not compared without end",
        _SCRUB,
        "if left == 0 or data.endswith",
        "if data.endswith",
        f"{_CORE}test_scrub.py::test_an_end_of_repeated_bytes_is_compared_so_many_times",
    ),
    Guard(
        "room behind what holds a long needle",
        "sallyport/wire/http1/scan.py",
        'return _ROOM if max(map(len, patterns), default=0) >= LONG_PATTERN else b""',
        'return b""',
        "tests/sallyport/wire/http1/test_scan.py::test_a_long_pattern_is_sought_with_room_behind_the_data",
    ),
    Guard(
        "a match that ends in that room",
        _SCRUB,
        "while 0 <= at <= last:",
        "while 0 <= at:",
        f"{_CORE}test_scrub.py::test_what_ends_behind_the_data_is_no_match",
    ),
    Guard(
        "what ends in that room makes no answer unclean",
        "sallyport/wire/http1/scan.py",
        "if last >= 0 and 0 <= roomy.find(pattern) <= last:",
        "if roomy.find(pattern) >= 0:",
        "tests/sallyport/wire/http1/test_scan.py::test_what_ends_in_the_room_is_no_match",
    ),
    Guard(
        "answers that can be read",
        "gateway/core/inject/prepare.py",
        "            self.removed |= _ACCEPT_ENCODING\n",
        "",
        f"{_CORE}test_upstream_head.py::test_c3_a_scrubbed_route_asks_for_identity_once",
    ),
)

# --- an answer that is gzip, and frames after a 101 (C3) -------------------------------------------------------------

_CODING: Final = "gateway/core/content_coding.py"
_TEST_CODING: Final = f"{_CORE}test_content_coding.py::"
_NO_GZIP: Final = f"{_TEST_CODING}test_c3_what_is_not_gzip_is_refused"
_WHICH_CODING: Final = f"{_TEST_CODING}test_c3_a_coding_is_read_from_every_line"
_ANSWER: Final = "gateway/answer.py"
_TEST_ANSWER: Final = "tests/gateway/test_answer.py::"
_BOMB: Final = f"{_TEST_ANSWER}test_c3_a_gzip_bomb_waits_coded_for_a_slow_sandbox"
_GZIP_FLOOD: Final = (
    f"{_TEST_ANSWER}test_t6_however_many_answers_are_gzip_a_turn_of_the_loop_undoes_as_little_as_of_one"
)
_FRAME_SCRUB: Final = "gateway/core/frame_scrub.py"
_TEST_FRAMES: Final = f"{_CORE}test_frame_scrub.py::"
_NO_FRAME: Final = f"{_TEST_FRAMES}test_c3_from_what_is_no_frame_on_bytes_are_searched_as_they_come"

_CODED: Final = (
    Guard(
        "gzip is undone",
        _ANSWER,
        "        if coding is Coding.GZIP:\n",
        "        if False:\n",
        f"{_TEST_ANSWER}test_c3_gzip_is_undone_and_searched",
    ),
    Guard(
        "several codings",
        _CODING,
        "if len(codings) == 1 and codings[0] in _GZIP_NAMES",
        "if codings[-1] in _GZIP_NAMES",
        _WHICH_CODING,
    ),
    Guard(
        "part of a gzip",
        _CODING,
        " and head.status != _PARTIAL:",
        ":",
        f"{_TEST_CODING}test_c3_a_part_of_something_coded_cannot_be_undone",
    ),
    Guard(
        "what cannot be undone, where the operator wants none",
        _ANSWER,
        "            if not self._exchange.parts.scrub.lets_unscannable_pass:\n",
        "            if False:\n",
        f"{_TEST_ANSWER}test_c3_what_cannot_be_undone_is_502_where_the_operator_says_so",
    ),
    Guard(
        "fields that speak of the coded bytes",
        _CODING,
        "    head.remove(CODED_FIELDS)\n",
        "    pass\n",
        f"{_TEST_CODING}test_c3_what_is_said_of_the_coded_bytes_goes_with_the_coding",
    ),
    Guard(
        "trailers that speak of the coded bytes",
        _ANSWER,
        "            trailers = drop_coded_trailers(trailers)\n",
        "            pass\n",
        f"{_TEST_ANSWER}test_c3_gzip_is_undone_and_searched",
    ),
    Guard(
        "the length of a gzip is not its content's",
        _CODING,
        "    head.body = None\n",
        "    pass\n",
        f"{_TEST_CODING}test_c3_what_is_said_of_the_coded_bytes_goes_with_the_coding",
    ),
    Guard(
        "a step of gzip",
        _CODING,
        "member.decompress(self._input, STEP_BYTES)",
        "member.decompress(self._input)",
        f"{_TEST_CODING}test_c3_a_bomb_gives_a_step_at_a_time_and_holds_its_input_alone",
    ),
    Guard("what is no gzip", _CODING, "_GZIP_WINDOW: Final = 16 + ", "_GZIP_WINDOW: Final = 32 + ", _NO_GZIP),
    Guard(
        "what stands behind a gzip",
        _CODING,
        "            self._input = member.unused_data\n",
        '            self._input = b""\n',
        _NO_GZIP,
    ),
    Guard(
        "gzip that is cut short",
        _CODING,
        "        if self._member is not None:\n            raise",
        "        if False:\n            raise",
        f"{_TEST_CODING}test_c3_a_gzip_that_is_cut_short_is_refused",
    ),
    Guard(
        "the end of a gzip answer",
        _ANSWER,
        "        if self._reader.done and not self.waits:\n            gzip.finish()\n",
        "",
        f"{_TEST_ANSWER}test_c3_broken_gzip_that_is_here_at_once_is_502",
    ),
    Guard(
        "gzip of all answers in one line",
        _ANSWER,
        "(has_turn or exchange.parts.codings.claim())",
        "True",
        _GZIP_FLOOD,
    ),
    Guard(
        "gzip a step in a turn of the line",
        _ANSWER,
        "            piece = gzip.step()\n",
        "            while gzip.has_more:\n                piece += gzip.step()\n",
        _BOMB,
    ),
    Guard(
        "the time of a line in a turn of the loop",
        "sallyport/net/turns.py",
        "self._turns.take() if self._read_clock() < ends_at else None",
        "self._turns.take()",
        _GZIP_FLOOD,
    ),
    Guard(
        "gzip of sandboxes takes turns",
        _ANSWER,
        "exchange.parts.codings.enter(exchange.table.sandbox_id, self)",
        'exchange.parts.codings.enter("", self)',
        f"{_TEST_ANSWER}test_t6_forty_answers_of_one_sandbox_that_are_gzip_leave_another_its_turn",
    ),
    Guard(
        "an answer that is over stands in no line",
        "gateway/serve.py",
        "        if answer.waits:\n            answer.leave_line()\n",
        "",
        f"{_TEST_ANSWER}test_c3_an_answer_that_is_over_stands_in_line_no_more",
    ),
    Guard(
        "gzip for a sandbox that does not read",
        _ANSWER,
        "gzip.has_more and not exchange.stream.is_writing_held and (",
        "gzip.has_more and (",
        f"{_TEST_ANSWER}test_c3_a_link_that_goes_before_its_answer_is_undone_costs_nothing",
    ),
    Guard(
        "what waits coded is not read from the upstream",
        _ANSWER,
        '            if self.waits:\n                self.link.hold_reading("coding")\n            else:',
        "            if not self.waits:",
        f"{_TEST_ANSWER}test_c3_what_waits_coded_is_not_read_from_the_upstream",
    ),
    Guard(
        "frames, and not the bytes they stand in",
        "gateway/serve.py",
        "FrameScrubber(answer.scrubber)\n",
        "answer.scrubber\n",
        "tests/gateway/test_relay.py::test_c3_a_secret_across_two_fragments_is_masked",
    ),
    Guard(
        "extensions that were not offered",
        "gateway/serve.py",
        'if self.route is not None and b"sec-websocket-extensions" in head.names:',
        "if False:",
        "tests/gateway/test_serve.py::test_s7_a_101_nobody_asked_for_is_502",
    ),
    Guard(
        "the payload of a frame",
        _FRAME_SCRUB,
        "out.append(self._place(self._scrubber.feed(payload)))",
        "out.append(payload)",
        f"{_TEST_FRAMES}test_c3_a_secret_in_a_frame_is_blanked_wherever_it_is_cut",
    ),
    Guard(
        "a secret across fragments",
        _FRAME_SCRUB,
        "        if self._is_final and not self._left:\n",
        "        if not self._left:\n",
        f"{_TEST_FRAMES}test_c3_a_secret_across_fragments_is_blanked",
    ),
    Guard(
        "no message waits for the next",
        _FRAME_SCRUB,
        "        if self._is_final and not self._left:\n",
        "        if False:\n",
        f"{_TEST_FRAMES}test_c3_what_begins_a_secret_is_not_held_at_the_end_of_a_message",
    ),
    Guard(
        "heads that wait within a secret",
        _FRAME_SCRUB,
        "if not self._room:",
        "if False:",
        f"{_TEST_FRAMES}test_c3_fragments_without_end_do_not_gather",
    ),
    Guard(
        "short frames together",
        _FRAME_SCRUB,
        "(run := self._pass_run(data, at, out)) > at",
        "(run := at) > at",
        f"{_TEST_FRAMES}test_short_frames_are_not_looked_at_one_by_one",
    ),
    Guard(
        "a secret among short frames",
        _FRAME_SCRUB,
        "if not scrubber.needles.is_clean(together):",
        "if False:",
        f"{_TEST_FRAMES}test_c3_a_secret_among_many_short_frames_is_blanked",
    ),
    Guard(
        "what begins a secret at the end of short frames",
        _FRAME_SCRUB,
        "held = 0 if is_message_whole else scrubber.needles.held_suffix(together)",
        "held = 0",
        f"{_TEST_FRAMES}test_c3_a_secret_among_many_short_frames_is_blanked",
    ),
    Guard(
        "short frames together while something is held",
        _FRAME_SCRUB,
        "if self._head or not self._separator:",
        "if self._head or not self._separator or self._scrubber.held_bytes:",
        f"{_TEST_FRAMES}test_c3_frames_that_step_through_a_secret_are_not_looked_at_one_by_one",
    ),
    Guard(
        "what ends a message among short frames",
        _FRAME_SCRUB,
        "[payload + ends if data[begins] & _FINAL else payload for",
        "[payload for",
        f"{_TEST_FRAMES}test_c3_a_secret_among_many_short_frames_is_blanked",
    ),
    Guard(
        "what is held unseen across messages among short frames",
        _FRAME_SCRUB,
        "ended = searched.rfind(ends) + 1",
        "ended = 0",
        f"{_TEST_FRAMES}test_c3_what_is_held_unseen_of_a_secret_that_repeats_itself_is_of_one_message",
    ),
    Guard(
        "no more heads of short frames than may wait",
        _FRAME_SCRUB,
        "        payloads = payloads[: self._room]\n",
        "",
        f"{_TEST_FRAMES}test_c3_fragments_that_are_too_many_to_wait_are_let_go_wherever_they_are_cut",
    ),
    Guard(
        "short frames behind what is held",
        _FRAME_SCRUB,
        "holds = scrubber.held_bytes > 0",
        "holds = False",
        f"{_TEST_FRAMES}test_c3_a_secret_among_many_short_frames_is_blanked",
    ),
    Guard(
        "what a filter takes long for takes turns",
        "sallyport/net/relay.py",
        "            bulk.take(self, data, self._take)\n",
        "            self._take(data)\n",
        "tests/sallyport/net/test_relay.py::test_a_side_whose_filter_takes_long_waits_for_its_turn",
    ),
    Guard(
        "what an answer takes long for takes turns",
        "gateway/upstream.py",
        "            self._pool.turns.take(self, data, self._take)\n",
        "            self._take(data)\n",
        "tests/gateway/test_upstream.py::test_t6_an_answer_that_arrives_when_a_turn_is_spent_waits_for_a_later_one",
    ),
    Guard(
        "what a body takes long for takes turns",
        _STREAM,
        "                self.parts.upstreams.turns.take(self, data, self._take)\n",
        "                self._take(data)\n",
        "tests/gateway/test_upstream.py::test_t6_a_body_that_arrives_when_a_turn_is_spent_waits_for_a_later_one",
    ),
    Guard(
        "a long head takes turns",
        _STREAM,
        "if self._buffer or len(data) >= TIMED_BYTES:",
        "if self._exchange is not None and len(data) >= TIMED_BYTES:",
        "tests/gateway/test_upstream.py::test_t6_a_head_that_arrives_when_a_turn_is_spent_waits_for_a_later_one[long]",
    ),
    Guard(
        "the end of a long head takes turns",
        _STREAM,
        "if self._buffer or len(data) >= TIMED_BYTES:",
        "if len(data) >= TIMED_BYTES:",
        "tests/gateway/test_upstream.py::"
        "test_t6_a_head_that_arrives_when_a_turn_is_spent_waits_for_a_later_one[its-end]",
    ),
    Guard(
        "a turn that is spent takes nothing more",
        "sallyport/net/bulk_turns.py",
        "if self.is_spent or reader in self._late:",
        "if reader in self._late:",
        "tests/sallyport/net/test_bulk_turns.py::test_t6_a_turn_that_is_spent_takes_nothing_more_and_nothing_is_lost",
    ),
    Guard(
        "what comes behind what is late",
        "sallyport/net/bulk_turns.py",
        "if self.is_spent or reader in self._late:",
        "if self.is_spent and reader not in self._late:",
        "tests/sallyport/net/test_bulk_turns.py::test_t6_what_comes_behind_what_is_late_waits_behind_it",
    ),
    Guard(
        "what comes behind a head takes turns",
        _STREAM,
        "        data = self.take_buffer()\n        if len(data) >= TIMED_BYTES and not self._is_serving:\n",
        "        data = self.take_buffer()\n        if False:\n",
        "tests/gateway/test_upstream.py::test_t6_a_body_that_came_with_its_head_waits_where_a_turn_is_spent[True]",
    ),
    Guard(
        "the end of a stream behind what is late",
        _STREAM,
        "self.has_ended and not self.parts.upstreams.turns.late_bytes(self)",
        "self.has_ended",
        "tests/gateway/test_upstream.py::test_t6_a_body_that_came_with_its_head_waits_where_a_turn_is_spent[True]",
    ),
    Guard(
        "what waits of a body for a turn counts",
        _STREAM,
        "            self.backlog.hold((self, BULK), late)\n",
        "            pass\n",
        "tests/gateway/test_upstream.py::test_t6_a_body_that_arrives_when_a_turn_is_spent_waits_for_a_later_one",
    ),
    Guard(
        "what waits of an answer for a turn counts",
        "gateway/upstream.py",
        "            self.user.hold_late(late)\n",
        "            pass\n",
        "tests/gateway/test_upstream.py::test_t6_an_answer_that_arrives_when_a_turn_is_spent_waits_for_a_later_one",
    ),
    Guard(
        "what waited of an answer that is parted from",
        "gateway/serve.py",
        "            answer.release_late()\n",
        "            pass\n",
        "tests/gateway/test_upstream.py::test_t6_who_is_gone_when_its_turn_comes_gets_nothing[sandbox]",
    ),
    Guard(
        "a stream that is given on waits for no turn",
        _STREAM,
        "        self.parts.upstreams.turns.leave(self)\n        self.resume_reading(BULK)\n",
        "        pass\n",
        "tests/gateway/test_upstream.py::test_t6_a_stream_that_is_given_on_waits_for_no_turn",
    ),
    Guard(
        "a link that is given on is not read for its turn",
        "gateway/upstream.py",
        "        if not self.is_lost:  # with a 101 the transport is another",
        "        if True:  # with a 101 the transport is another",
        "tests/gateway/test_upstream.py::test_t6_a_101_that_was_late_leaves_its_transport_to_who_has_it",
    ),
    Guard(
        "who is gone keeps nothing that is late",
        "sallyport/net/bulk_turns.py",
        "            self._line.leave(known[0], reader)\n",
        "            self._late[reader] = known\n",
        "tests/sallyport/net/test_bulk_turns.py::test_t6_who_is_gone_waits_no_more_and_keeps_nothing",
    ),
    Guard(
        "owners of reading take turns",
        "sallyport/net/bulk_turns.py",
        "owner = reader.turn_owner",
        "owner = None",
        "tests/sallyport/net/test_bulk_turns.py::test_t6_owners_take_turns",
    ),
    *(
        Guard(name, "sallyport/net/tls.py", text, replacement, f"tests/sallyport/net/test_tls.py::{test}")
        for name, text, replacement, test in (
            (
                "records without data end their transport",
                "if self._fruitless_bytes > _MAX_FRUITLESS_BYTES and",
                "if False and",
                "test_t6_a_peer_that_sends_record_after_record_without_data_is_cut_off[one read]",
            ),
            (
                "a byte of data is worth so much",
                "size -= _BYTE_IS_WORTH * len(data)",
                "size = -self._fruitless_bytes",
                "test_t6_a_byte_of_data_makes_good_for_one_record_and_not_for_a_thousand",
            ),
            (
                "answers that nobody takes end their transport",
                "self._unasked_bytes > _MAX_UNASKED_BYTES and",
                "False and",
                "test_t6_a_peer_that_takes_nothing_and_has_itself_answered_is_cut_off",
            ),
            (
                "TLS in a turn that is spent",
                "            if turns is not None and turns.is_spent:\n",
                "            if False:\n",
                "test_t6_what_arrives_when_a_turn_is_spent_waits_for_a_later_one",
            ),
        )
    ),
    Guard(
        "turns by what a read counts as",
        "sallyport/net/bulk_turns.py",
        "taken += max(reads, 1.0)",
        "taken += 1.0",
        "tests/sallyport/net/test_bulk_turns.py::test_one_that_takes_as_long_as_a_whole_turn_has_it_alone",
    ),
    Guard(
        "a masked frame from a server",
        _FRAME_SCRUB,
        "if head[0] & _RESERVED or head[1] & _MASKED:",
        "if head[0] & _RESERVED:",
        _NO_FRAME,
    ),
    Guard(
        "the first byte of what is no frame",
        _FRAME_SCRUB,
        "            out.append(self._place(self._scrubber.feed(head)))\n",
        "            out.append(head)\n",
        f"{_TEST_FRAMES}test_c3_a_secret_that_stands_where_a_frame_would_is_blanked",
    ),
)

# --- what one sandbox may have, and what the process may hold (S10, T5) ----------------------------------------------

_TEST_LIMITS: Final = "tests/flow/test_limits.py::"
_IN_A_MINUTE: Final = f"{_TEST_LIMITS}test_s10_a_sandbox_s_requests_in_a_minute"
_LOWER_BODY: Final = f"{_TEST_LIMITS}test_s10_a_body_over_the_lower_limit_is_413"
_SERVE: Final = "gateway/serve.py"
_REQUEST_LIMIT: Final = "gateway/core/request_limit.py"
_TEST_REQUEST_LIMIT: Final = f"{_CORE}test_request_limit.py::"
_BUDGET: Final = "sallyport/net/buffer_budget.py"
_TUNNEL_STREAM: Final = "sallyport/net/tunnel_stream.py"
_TEST_TUNNEL_STREAM: Final = "tests/sallyport/net/test_tunnel_stream.py::"
_TEST_BUDGET: Final = "tests/sallyport/net/test_buffer_budget.py::"
_TEST_MEMORY: Final = "tests/gateway/test_memory.py::"
_TEST_RENEWAL: Final = "tests/gateway/test_renewal.py::"
_TEST_TUNNEL: Final = "tests/gateway/test_tunnel_listener.py::"
_SHEDDING: Final = f"{_TEST_MEMORY}test_t5_over_its_memory_a_gateway_refuses_what_is_new_and_resets_what_holds_most"

_LIMITS: Final = (
    Guard(
        "a sandbox's requests",
        _SERVE,
        "        if limit is not None:\n            excess",
        "        if False:\n            excess",
        _IN_A_MINUTE,
    ),
    Guard(
        "a sandbox's CONNECTs",
        "gateway/connect.py",
        "        if excess is not None:\n",
        "        if False:\n",
        _IN_A_MINUTE,
    ),
    Guard(
        "requests at once",
        _REQUEST_LIMIT,
        "if self._max_concurrent is not None and self.open >= self._max_concurrent:",
        "if False:",
        f"{_TEST_REQUEST_LIMIT}test_requests_at_once_are_counted_until_they_end",
    ),
    Guard(
        "requests in a minute",
        _REQUEST_LIMIT,
        "wait = 0.0 if self._bucket is None else self._bucket.take(now)",
        "wait = 0.0",
        f"{_TEST_REQUEST_LIMIT}test_a_minute_s_worth_may_be_spent_at_once_and_no_more",
    ),
    Guard(
        "what a bucket holds at most",
        "sallyport/token_bucket.py",
        "min(self._burst, self.left + (now - self._as_of) * self._per_second)",
        "self.left + (now - self._as_of) * self._per_second",
        f"{_TEST_REQUEST_LIMIT}test_the_minute_fills_with_time_but_not_beyond",
    ),
    Guard(
        "a sandbox's backlog",
        "gateway/backlog.py",
        "if self.held > self._limit and not self.is_over:",
        "if False:",
        f"{_TEST_LIMITS}test_t6_answers_that_nobody_reads_are_bounded_for_a_sandbox_together",
    ),
    Guard(
        "an answer that begins over a sandbox's backlog",
        _SERVE,
        "if backlog.is_over:",
        "if False:",
        f"{_TEST_LIMITS}test_t6_answers_that_nobody_reads_are_bounded_for_a_sandbox_together",
    ),
    Guard(
        "an answer that was given up over a sandbox's backlog",
        _SERVE,
        "            backlog.leave(answer.link)\n",
        "            pass\n",
        f"{_TEST_LIMITS}test_t6_what_comes_and_goes_while_a_sandbox_is_over_its_backlog_is_forgotten",
    ),
    Guard(
        "opaque bytes that were given up over a sandbox's backlog",
        "gateway/relay.py",
        "            self._backlog.leave(side)\n",
        "            pass\n",
        f"{_TEST_LIMITS}test_t6_opaque_bytes_that_nobody_reads_are_bounded_for_a_sandbox_together",
    ),
    Guard(
        "a backlog of the sandbox that a stream was",
        "gateway/downstream.py",
        "        self._leave_backlog()\n        self.backlog = backlog\n",
        "        self.backlog = backlog\n",
        f"{_TEST_LIMITS}test_t6_what_a_stream_holds_leaves_a_backlog_with_its_sandbox",
    ),
    Guard(
        "opaque bytes in a sandbox's backlog",
        "gateway/relay.py",
        "self._backlog.hold(side, size)",
        "pass",
        f"{_TEST_LIMITS}test_t6_opaque_bytes_that_nobody_reads_are_bounded_for_a_sandbox_together",
    ),
    Guard(
        "bodies in a sandbox's backlog",
        "gateway/answer.py",
        "stream.backlog.hold(self, size)",
        "pass",
        f"{_TEST_LIMITS}test_t6_bodies_that_nobody_takes_are_bounded_for_a_sandbox_together",
    ),
    Guard(
        "what TLS has read in a sandbox's backlog",
        _STREAM,
        "unread = 0 if self._exchange is None else self._exchange.unread_bytes",
        "unread = 0",
        f"{_TEST_LIMITS}test_t6_what_tls_has_read_and_nobody_takes_is_counted_too",
    ),
    Guard(
        "what TLS has read of relayed bytes",
        "sallyport/net/relay.py",
        " + unread_bytes(self.other.transport)",
        "",
        "tests/sallyport/net/test_relay.py::test_what_tls_has_read_waits_for_the_slow_side_too",
    ),
    Guard(
        "a long read that is not taken is not given to OpenSSL",
        "sallyport/net/tls.py",
        "while self._unread and not (self._reading_paused or self._awaits_turn) and",
        "while self._unread and not self._awaits_turn and",
        "tests/sallyport/net/test_tls.py::test_what_waits_of_a_long_read_is_told_and_is_not_in_openssl",
    ),
    Guard(
        "a sandbox's limit over a push",
        _ROUTE_TABLE,
        "        self.sandbox_limit = before.sandbox_limit\n",
        "",
        f"{_CORE}test_route_table.py::test_a_new_revision_goes_on_counting_where_a_route_and_its_limits_are_the_same",
    ),
    Guard(
        "a route's limit over a push",
        _ROUTE_TABLE,
        "route.limit = known.limit if known.limit.terms == route.limit.terms else route.limit",
        "pass",
        f"{_CORE}test_route_table.py::test_a_new_revision_goes_on_counting_where_a_route_and_its_limits_are_the_same",
    ),
    Guard(
        "a limit is its organization's",
        "gateway/plan_holder.py",
        "if known is None or known.organization_id != table.organization_id:",
        "if known is None:",
        "tests/gateway/test_plan_holder.py::test_a_sandbox_s_limit_outlives_revisions_and_not_its_plan",
    ),
    Guard(
        "a route's requests",
        _SERVE,
        "        if decision.limit is not None:\n",
        "        if False:\n",
        "tests/gateway/test_serve.py::test_requests_over_the_routes_rate_are_429_and_say_when_to_try_again",
    ),
    Guard(
        "a body's length",
        _SERVE,
        "if limit is not None and body > limit:",
        "if False:",
        "tests/gateway/test_serve.py::test_a_body_over_the_routes_limit_is_413_by_its_length",
    ),
    Guard(
        "a body's chunks",
        "gateway/request_body.py",
        "if self._limit is not None and exchange.bytes_up > self._limit:",
        "if False:",
        "tests/gateway/test_request_body.py::test_a_body_over_the_routes_limit_is_413_by_its_chunks",
    ),
    Guard(
        "a head whose body is refused with it, and the credential in it",
        "gateway/request_body.py",
        """        if self._unsent:
            self._unsent = b""
            self._exchange.withhold()
""",
        "        self.begin()\n",
        "tests/gateway/test_request_body.py::test_a_body_that_is_faulty_at_once_leaves_its_head_unsent",
    ),
    Guard(
        "a link that is lost when its request is not sent",
        "gateway/serve.py",
        "if link.is_lost or not link.is_fit:",
        "if False:",
        "tests/gateway/test_request_body.py::test_a_link_that_is_lost_by_then_is_not_given_back",
    ),
    Guard(
        "the record of a request that was not sent",
        "gateway/serve.py",
        "self.address = self.is_link_reused = self.versions = None",
        "pass",
        "tests/gateway/test_request_body.py::test_a_body_that_is_faulty_at_once_leaves_its_head_unsent",
    ),
    Guard(
        "the lower limit of a body",
        _SERVE,
        "if limit is None or (route_limit is not None and route_limit < limit):",
        "if limit is None:",
        _LOWER_BODY,
    ),
    Guard(
        "the operator's limit of a body",
        _SERVE,
        "if limit is None or (route_limit is not None and route_limit < limit):",
        "if True:",
        _LOWER_BODY,
    ),
    *(
        Guard(
            name,
            _STREAM,
            "if streams.claim(self, before, claims) > limits.streams_per_sandbox:",
            "if streams.claim(self, before, claims) < 0:",
            test,
        )
        for name, test in (
            ("a sandbox's streams, by its requests", "tests/gateway/test_stream.py::test_s10_a_stream_too_many_is_503"),
            (
                "a sandbox's streams, in its tunnel",
                "tests/gateway/test_tunnel_stream.py::test_the_sandbox_s_streams_have_a_limit",
            ),
        )
    ),
    Guard(
        "everybody's streams",
        _STREAM,
        "elif before is None and streams.admitted > limits.open_streams:",
        "elif False:",
        "tests/gateway/test_stream.py::test_s10_a_stream_too_many_is_503",
    ),
    Guard(
        "everybody's streams, tunnels among them",
        "gateway/tunnel_listener.py",
        "            if parts.streams.admitted >= parts.limits.open_streams:\n                raise",
        "            if False:\n                raise",
        "tests/gateway/test_tunnel_listener.py::test_a_gateway_that_is_full_says_when_to_come_back",
    ),
    Guard(
        "streams without a token, counted apart",
        _STREAM,
        "before is None and streams.admitted > limits.open_streams",
        "before is None and streams.open > limits.open_streams",
        "tests/flow/test_limits.py::test_s10_sockets_that_show_no_token_take_no_place_of_a_sandbox",
    ),
    Guard(
        "a refused CONNECT is open until its socket is gone",
        "gateway/passthrough.py",
        "Parting(parts.clock, self._transport, answer, self._leave).begin()",
        "Parting(parts.clock, self._transport, answer, self._leave()).begin()",
        "tests/flow/test_limits.py::test_s10_a_refused_connect_takes_a_place_of_its_sandbox_until_it_has_ended",
    ),
    Guard(
        "a text of the audit log that a sandbox makes long is not remembered",
        "gateway/audit_line.py",
        "            if len(text) <= MAX_KNOWN_LENGTH:\n",
        "            if True:\n",
        "tests/gateway/test_audit_line.py::test_t5_what_a_sandbox_makes_long_is_written_and_not_remembered",
    ),
    Guard(
        "a TLS session with all the certificates of its peer",
        "gateway/upstream.py",
        " or tls.peer_chain_bytes > MAX_SESSION_CHAIN_BYTES:",
        ":",
        "tests/gateway/test_upstream.py::"
        "test_t5_a_tls_session_of_an_upstream_that_sends_certificates_without_need_is_not_kept",
    ),
    Guard(
        "TLS sessions where there is too much",
        "gateway/memory.py",
        "            parts.upstreams.forget_sessions()\n",
        "",
        "tests/gateway/test_upstream.py::test_t5_a_gateway_that_holds_too_much_keeps_no_tls_session",
    ),
    Guard(
        "streams without a token, so many",
        "gateway/open_streams.py",
        "if len(self._anonymous) > self._max_anonymous:",
        "if False:",
        "tests/flow/test_limits.py::test_s10_sockets_that_show_no_token_take_no_place_of_a_sandbox",
    ),
    Guard(
        "streams without a token: the oldest goes",
        "gateway/open_streams.py",
        "popitem(last=False)",
        "popitem(last=True)",
        "tests/flow/test_limits.py::test_s10_who_is_slow_with_a_token_has_as_long_as_others_leave_room",
    ),
    Guard(
        "streams without a token, where descriptors are few",
        "gateway/assembly.py",
        "min(config.limits.anonymous_streams, descriptor_limit() // 4)",
        "config.limits.anonymous_streams",
        "tests/flow/test_limits.py::test_s10_where_there_are_few_descriptors_sockets_without_a_token_have_a_quarter",
    ),
    Guard(
        "streams too many of a sandbox",
        _STREAM,
        "            streams.disown(self, claims)",
        "            pass",
        "tests/flow/test_limits.py::test_s10_streams_too_many_of_one_sandbox_take_no_place_of_others",
    ),
    Guard(
        "tunnels that were replaced",
        "gateway/tunnel_host.py",
        "            self._parts.streams.disown(self, self.claims)\n",
        "",
        f"{_TEST_LIMITS}test_s10_tunnels_that_replace_one_another_take_no_place_of_others",
    ),
    Guard(
        "tunnels that were replaced are no streams of sandboxes",
        "gateway/open_streams.py",
        "return self.open - self._open_apart\n",
        "return self.open - self._apart.total()\n",
        "tests/gateway/test_tunnels.py::test_s10_tunnels_that_were_replaced_take_no_place_while_they_linger",
    ),
    Guard(
        "streams whose token was taken back",
        _STREAM,
        "            streams.add_anonymous(self)\n        return Refused",
        "            streams.add(self)\n        return Refused",
        "tests/flow/test_limits.py::test_s10_streams_whose_token_is_taken_back_by_their_next_request_are_anonymous_too",
    ),
    Guard(
        "sockets whose renewal token is exchanged",
        "gateway/tunnel_listener.py",
        "        stream.be_of(claims)\n",
        "",
        "tests/gateway/test_tunnel_listener.py::test_s10_a_socket_whose_token_is_exchanged_makes_room_for_nobody",
    ),
    *(
        Guard(
            f"a handshake of a tunnel: {name}", "gateway/tunnel_listener.py", text, replacement, f"{_TEST_TUNNEL}{test}"
        )
        for name, text, replacement, test in (
            (
                "no TLS before its hello is whole",
                "        if hello is None:\n",
                "        if False:\n",
                "test_a_hello_may_come_in_pieces",
            ),
            (
                "what it has sent is held",
                "self._is_begun else len(self._buffer)\n",
                "self._is_begun else 0\n",
                "test_a_hello_may_come_in_pieces",
            ),
            (
                "what OpenSSL holds is counted",
                "HANDSHAKE_BYTES if self._is_begun else",
                "0 if self._is_begun else",
                "test_t5_handshakes_that_have_begun_are_reset_where_they_hold_most",
            ),
            (
                "what is no hello ends",
                "            self._handshake_ended(error)\n            return\n        if hello",
                "            hello = error\n        if hello",
                "test_t5_what_is_no_hello_that_one_may_send_is_ended_before_there_is_tls",
            ),
            (
                "none is awaited without memory",
                " or parts.sheds(None):\n",
                ":\n",
                "test_t5_a_gateway_without_memory_begins_no_handshake",
            ),
            (
                "none is begun without memory",
                "        if self._parts.sheds(None):\n",
                "        if False:\n",
                "test_t5_a_gateway_without_memory_begins_no_handshake",
            ),
        )
    ),
    Guard(
        "renewals: one call for all who ask alike",
        "gateway/renewal.py",
        "        task = self._calls.get(asked)\n",
        "        task = None\n",
        f"{_TEST_RENEWAL}test_s10_the_same_renewal_is_one_call_and_one_answer_for_all_who_wait",
    ),
    *(
        Guard(
            f"renewals: {name} of who asks",
            "gateway/renewal.py",
            "asked = (sandbox_id, request_id, renewal_token, lineage)",
            f"asked = ({asked})",
            f"{_TEST_RENEWAL}test_t1_who_asks_with_anything_else_waits_for_a_call_of_its_own",
        )
        for name, asked in (
            ("sandbox", '"sbx_one", request_id, renewal_token, lineage'),
            ("request", 'sandbox_id, "req_1", renewal_token, lineage'),
            ("token", "sandbox_id, request_id, None, lineage"),
            ("lineage", 'sandbox_id, request_id, renewal_token, "sid_1"'),
        )
    ),
    Guard(
        "renewals by turns",
        "gateway/renewal.py",
        "asyncio.timeout(self._timeout_seconds), self._gate.turn(sandbox_id):",
        "asyncio.timeout(self._timeout_seconds):",
        "tests/flow/test_fair_fetches.py::test_s10_who_exchanges_its_renewal_token_over_and_over_holds_up_no_other",
    ),
    Guard(
        "renewals: the wait for a turn ends",
        "gateway/renewal.py",
        "async with asyncio.timeout(self._timeout_seconds), self._gate.turn(sandbox_id):",
        "async with self._gate.turn(sandbox_id), asyncio.timeout(self._timeout_seconds):",
        f"{_TEST_RENEWAL}test_s10_who_waits_for_a_turn_that_does_not_come_is_told_in_time",
    ),
    Guard(
        "a sandbox's names",
        "sallyport/net/turns.py",
        "if self._under_way[owner] < self._each:",
        "if True:",
        "tests/sallyport/net/test_turns.py::test_one_owner_leaves_room_for_others",
    ),
    Guard(
        "memory: credit while too much is held",
        _BUDGET,
        "return self.held > self.limit or (self._whole is not None and self._whole.is_over)",
        "return self._whole is not None and self._whole.is_over",
        f"{_TEST_BUDGET}test_credit_waits_until_the_budget_has_room",
    ),
    Guard(
        "memory: credit while all together hold too much",
        _BUDGET,
        "return self.held > self.limit or (self._whole is not None and self._whole.is_over)",
        "return self.held > self.limit",
        f"{_TEST_BUDGET}test_credit_waits_for_both_limits",
    ),
    Guard(
        "memory: who holds most goes",
        _BUDGET,
        "while self.held > self._evict_above:",
        "while False:",
        f"{_TEST_BUDGET}test_who_holds_most_goes_first_until_it_fits",
    ),
    Guard(
        "memory: small pieces of a stream",
        _TUNNEL_STREAM,
        "if not held or len(held[-1]) + len(data) > PIECE_BYTES:",
        "if True:",
        f"{_TEST_TUNNEL_STREAM}test_t6_small_frames_are_held_for_about_what_the_budget_counts",
    ),
    Guard(
        "memory: small pieces of a body",
        _TUNNEL_STREAM,
        "if not held or len(held[-1]) + len(data) > PIECE_BYTES:",
        "if True:",
        f"{_TEST_LIMITS}test_t6_a_body_in_frames_of_two_bytes_is_held_for_about_what_it_counts",
    ),
    Guard(
        "what a recording of another sandbox holds",
        "gateway/stream.py",
        "        if not capture.is_asked_for(",
        "        if False and not capture.is_asked_for(",
        "tests/gateway/test_recorder.py::test_t6_what_another_sandbox_sends_and_gets_is_not_held",
    ),
    Guard(
        "turns: a stream that resumes",
        _TUNNEL_STREAM,
        "            self._tunnel.wait_for_turn(self)\n",
        "            while self.take_turn():\n                pass\n",
        f"{_TEST_TUNNEL_STREAM}test_t6_a_stream_that_resumes_leaves_others_their_turn",
    ),
    Guard(
        "turns: streams that resume together",
        _TUNNEL_STREAM,
        "            self._tunnel.wait_for_turn(self)\n",
        "            self._tunnel.loop.call_soon(self.take_turn)\n",
        f"{_TEST_TUNNEL_STREAM}test_t6_streams_that_resume_together_leave_others_their_turn",
    ),
    Guard(
        "turns: streams in line",
        "sallyport/net/tunnel.py",
        "            if read_clock() - began > TURN_SECONDS:\n",
        "            if False:\n",
        f"{_TEST_TUNNEL_STREAM}test_t6_streams_that_resume_together_leave_others_their_turn",
    ),
    Guard(
        "turns: large pieces",
        "sallyport/net/tunnel.py",
        "            if size < LARGE_PIECE_BYTES:\n",
        "            if True:\n",
        "tests/sallyport/net/test_tunnel.py::"
        "test_t6_a_piece_that_may_end_a_large_head_is_a_reason_to_look_at_the_clock",
    ),
    Guard(
        "memory: windows that grow",
        _BUDGET,
        "has_room = (self.held + more) * 2 <= self.limit",
        "has_room = True",
        f"{_TEST_BUDGET}test_windows_grow_into_half_of_the_budget_only",
    ),
    Guard("memory: a request", _SERVE, "if self.parts.is_shedding and", "if False and", _SHEDDING),
    Guard(
        "memory: a CONNECT",
        "gateway/connect.py",
        "if stream.parts.sheds(claims.sandbox_id):",
        "if False:",
        f"{_TEST_MEMORY}test_t5_a_connect_on_a_stream_that_is_there_is_refused",
    ),
    Guard(
        "memory: a stream",
        _STREAM,
        "if deny is None and parts.is_shedding and",
        "if False and",
        f"{_TEST_MEMORY}test_t5_a_stream_that_has_asked_nothing_yet_is_refused",
    ),
    Guard("memory: what holds most is reset", "gateway/memory.py", "each.stream.shed() for", "1 for", _SHEDDING),
    Guard(
        "memory: of whom it was taken",
        "gateway/memory.py",
        "parts.shed_from = self._shed_from if",
        "parts.shed_from = None if",
        f"{_TEST_MEMORY}test_t5_who_holds_most_in_all_is_reset_and_refused_and_its_neighbour_is_not",
    ),
    Guard(
        "memory: who holds most in all",
        "gateway/core/memory_limit.py",
        "heapq.heapreplace(ranks, (total + largest.size, number, owner))",
        "heapq.heapreplace(ranks, (total, number, owner))",
        f"{_CORE}test_memory_limit.py::test_t5_many_small_ones_of_who_holds_most_go_before_a_larger_one_of_another",
    ),
    Guard(
        "memory: what tunnels hold",
        "gateway/tunnel_host.py",
        "        return self._share.held\n",
        "        return 0\n",
        "tests/gateway/test_memory.py::test_what_tunnels_hold_goes_where_streams_hold_too_little",
    ),
    Guard(
        "memory: shedding goes on until some has gone",
        "gateway/core/memory_limit.py",
        "(self._low_bytes if self.is_over else self.limit_bytes)",
        "self.limit_bytes",
        f"{_CORE}test_memory_limit.py::test_t5_it_is_over_until_an_eighth_has_gone",
    ),
    Guard(
        "memory: looked at by the clock",
        "gateway/memory.py",
        "        self.look(self._resident_bytes())\n",
        "",
        "tests/gateway/test_memory.py::test_it_looks_by_the_clock",
    ),
    Guard(
        "memory: a cgroup is shared",
        "gateway/core/memory_limit.py",
        "return cgroup_bytes * 4 // 5 // processes",
        "return cgroup_bytes * 4 // 5",
        f"{_CORE}test_memory_limit.py::test_processes_share_four_fifths_of_a_cgroup",
    ),
)

# --- leaves, and the way out (T3, T4, A6) -----------------------------------------------------------------------------

_LEAVES: Final = "sallyport/net/interception.py"
_TEST_LEAVES: Final = "tests/sallyport/net/test_interception.py::"

_WAY_OUT: Final = (
    Guard(
        "a leaf begins an hour back",
        _LEAVES,
        "        not_before = now - _BACKDATED_SECONDS\n",
        "        not_before = now\n",
        f"{_TEST_LEAVES}test_leaf_says_what_it_must_and_no_more_t4_a6",
    ),
    Guard(
        "a leaf names one host",
        _LEAVES,
        "x509.SubjectAlternativeName([_general_name(host)])",
        'x509.SubjectAlternativeName([_general_name(host), x509.DNSName("*." + host)])',
        f"{_TEST_LEAVES}test_leaf_says_what_it_must_and_no_more_t4_a6",
    ),
    Guard(
        "serials are random",
        _LEAVES,
        "                serial_number=x509.random_serial_number(),\n",
        "                serial_number=7,\n",
        f"{_TEST_LEAVES}test_serials_are_random_t4",
    ),
)

# --- a tunnel's peer (tunnel-protocol.md) ----------------------------------------------------------------------------

_SESSION: Final = "sallyport/wire/yamux/session.py"
_TEST_SESSION: Final = f"{_WIRE}yamux/test_session.py::"
_LIES: Final = f"{_TEST_SESSION}test_every_lie_is_refused"
_WEBSOCKET: Final = "sallyport/wire/websocket.py"
_TEST_WEBSOCKET: Final = f"{_WIRE}test_websocket.py::test_what_is_refused"

_TUNNELS: Final = (
    Guard("the receive window", "sallyport/wire/yamux/window.py", "if count > self.available:", "if False:", _LIES),
    Guard("the length of a data frame", _SESSION, "if length > MAX_DATA_BYTES_TAKEN:", "if False:", _LIES),
    Guard("the credit of a stream", _SESSION, "if stream.credit > MAX_CREDIT_BYTES:", "if False:", _LIES),
    Guard("ids of the other side", _SESSION, "stream_id & 1 != self._remote_parity:", "False:", _LIES),
    Guard("ids that were used", _SESSION, "if stream_id <= self._last_remote_id:", "if False:", _LIES),
    Guard(
        "bytes of streams that are gone",
        _SESSION,
        "        if length > self._late_bytes:\n",
        "        if False:\n",
        f"{_TEST_SESSION}test_late_bytes_are_bounded_by_what_was_left_of_the_window",
    ),
    Guard(
        "the most streams",
        _SESSION,
        "self.count >= self._max_streams or ",
        "",
        f"{_TEST_SESSION}test_what_is_opened_beyond_the_most_streams_is_reset_alone",
    ),
    Guard(
        "the backlog",
        _SESSION,
        " or self.sending.owed_acks >= self._accept_backlog:",
        ":",
        f"{_TEST_SESSION}test_what_is_opened_beyond_the_backlog_is_reset_alone",
    ),
    Guard(
        "pace over tunnels",
        "sallyport/net/tunnel_pace.py",
        "return self._paces.setdefault(owner, TunnelPace())",
        "return TunnelPace()",
        f"{_TEST_LIMITS}test_t6_what_costs_nothing_is_counted_over_all_tunnels_of_a_sandbox",
    ),
    Guard(
        "pace of a sandbox",
        "gateway/tunnel_host.py",
        "budget=self._share, pace=pace)",
        "budget=self._share)",
        f"{_TEST_LIMITS}test_t6_what_costs_nothing_is_counted_over_all_tunnels_of_a_sandbox",
    ),
    Guard(
        "answers nobody reads",
        _SESSION,
        "if self.sending.answer_count > MAX_ANSWERS:",
        "if False:",
        f"{_TEST_SESSION}test_who_asks_and_does_not_read_the_answers_is_refused",
    ),
    Guard(
        "masks",
        _WEBSOCKET,
        "        if (second >= _MASKED) is not self._is_masked:\n",
        "        if False:\n",
        _TEST_WEBSOCKET,
    ),
    Guard("reserved bits", _WEBSOCKET, "if first & _RESERVED:", "if False:", _TEST_WEBSOCKET),
    Guard(
        "the length of a message",
        _WEBSOCKET,
        "if length > MAX_CONTROL_BYTES and length + len(self._fragments) > MAX_MESSAGE_BYTES:",
        "if False:",
        _TEST_WEBSOCKET,
    ),
    Guard(
        "the length of a message in small pieces",
        _WEBSOCKET,
        "            if len(self._fragments) > MAX_MESSAGE_BYTES:\n",
        "            if False:\n",
        _TEST_WEBSOCKET,
    ),
    Guard("the length of a control frame", _WEBSOCKET, "if length > MAX_CONTROL_BYTES:", "if False:", _TEST_WEBSOCKET),
    Guard(
        "one spelling of a frame's length",
        _WEBSOCKET,
        "if length < _LENGTH_OF_2 or (stop - start == 8 and length <= 0xFFFF):",
        "if False:",
        _TEST_WEBSOCKET,
    ),
    Guard(
        "the subprotocol",
        "sallyport/net/websocket_upgrade.py",
        'if subprotocol not in _list(head, b"sec-websocket-protocol"):',
        "if False:",
        "tests/sallyport/net/test_websocket_upgrade.py::test_requests_that_are_refused",
    ),
)

# --- webhooks: whose word counts, once, and where subscribers may be ------------------------------------------------

_VERIFICATION: Final = "control_plane/webhooks/verification.py"
_INGEST: Final = "control_plane/webhooks/ingest.py"
_TEST_VERIFICATION: Final = "tests/control_plane/webhooks/test_verification.py::"
_TEST_INGEST: Final = "tests/control_plane/webhooks/test_ingest.py::"
_TEST_OUTBOX: Final = "tests/control_plane/webhooks/test_outbox.py::"
_TEST_CHECKED: Final = "tests/control_plane/outbound/test_checked_session.py::"

_WEBHOOKS: Final = (
    Guard(
        "webhook signature compared",
        _VERIFICATION,
        'return hmac.compare_digest(_bytes(given), expected.encode("ascii"))',
        "return True",
        f"{_TEST_VERIFICATION}test_the_right_one_and_what_is_left_of_it",
    ),
    Guard(
        "webhook time of Slack",
        _VERIFICATION,
        'return _same(headers.get("x-slack-signature", ""), expected) & is_fresh(timestamp, now)',
        'return _same(headers.get("x-slack-signature", ""), expected)',
        f"{_TEST_VERIFICATION}test_a_signed_time_has_to_be_near",
    ),
    Guard(
        "webhook time of Standard Webhooks",
        _VERIFICATION,
        '(message_id != "") & is_fresh(timestamp, now)',
        '(message_id != "")',
        f"{_TEST_VERIFICATION}test_a_signed_time_has_to_be_near",
    ),
    Guard(
        "webhook secret that is no base64",
        _VERIFICATION,
        "& (expected is not None) ",
        "",
        f"{_TEST_VERIFICATION}test_a_secret_that_is_no_base64_signs_nothing",
    ),
    Guard(
        "webhook by the target's secret",
        _INGEST,
        "if not self._is_signed(opened, await self._target_secret(tx, opened), request, now):",
        "if False:",
        f"{_TEST_INGEST}test_who_does_not_share_the_secret_is_refused",
    ),
    Guard(
        "webhook by the connection's own secret",
        _INGEST,
        "if secret is not None and self._is_signed(opened, secret, request, now):",
        "if secret is not None:",
        f"{_TEST_INGEST}test_connections_that_sign_each_with_a_secret_of_its_own",
    ),
    Guard(
        "webhook challenge verified",
        _INGEST,
        "if found.needs_verification and not await",
        "if False and not await",
        f"{_TEST_INGEST}test_a_challenge_is_answered_without_a_trace",
    ),
    Guard(
        "webhook age",
        _INGEST,
        "if at is None or abs(now - at) > max_age:",
        "if False:",
        f"{_TEST_INGEST}test_a_signed_payload_may_be_too_old",
    ),
    Guard(
        "webhook ids of one connection",
        _INGEST,
        'return external_id if source.ownership == "target" else f"{connection_id} {external_id}"',
        "return external_id",
        f"{_TEST_INGEST}test_a_connection_cannot_use_up_the_ids_of_another",
    ),
    Guard(
        "webhook words that can be written",
        _INGEST,
        "if not (_WORD.fullmatch(event.external_id) and _WORD.fullmatch(event.type)):",
        "if False:",
        f"{_TEST_INGEST}test_what_is_no_event",
    ),
    Guard(
        "webhook bodies together",
        _INGEST,
        "if self._held + size > HELD_BYTES:",
        "if False:",
        f"{_TEST_INGEST}test_bodies_have_a_budget",
    ),
    Guard(
        "webhook of another organization's profile",
        "control_plane/store/webhooks.py",
        "    query = query.where(WebhookSubscription.organization_id == organization_id)\n",
        "",
        f"{_TEST_OUTBOX}test_profiles_whose_current_bindings_use_the_connection",
    ),
    Guard(
        "webhook result of a lost lease",
        "control_plane/webhooks/outbox.py",
        "if row is None or (row.owner, row.attempts) != (self._owner, claim.attempts):",
        "if row is None:",
        f"{_TEST_OUTBOX}test_a_late_result_of_a_lost_lease_changes_nothing",
    ),
    Guard(
        "webhook endpoint of another organization",
        "control_plane/webhooks/endpoints.py",
        "if connection is None or connection.organization_id != organization_id:",
        "if connection is None:",
        "tests/control_plane/webhooks/test_endpoints.py::test_an_endpoint_of_a_connection",
    ),
    Guard(
        "outbound https",
        "control_plane/outbound/checked_session.py",
        "if fault is not None:",
        "if False:",
        f"{_TEST_CHECKED}test_what_is_never_asked",
    ),
    Guard(
        "outbound literal addresses",
        "control_plane/outbound/checked_session.py",
        "if _is_literal(destination.host):",
        "if False:",
        f"{_TEST_CHECKED}test_what_is_never_asked",
    ),
    Guard(
        "outbound names",
        "control_plane/outbound/checked_session.py",
        "resolver=CheckedResolver(dialer),",
        "",
        f"{_TEST_CHECKED}test_a_name_that_leads_inwards_is_not_asked",
    ),
    Guard(
        "outbound redirects",
        "control_plane/outbound/checked_session.py",
        "allow_redirects=False",
        "allow_redirects=True",
        f"{_TEST_CHECKED}test_every_answer_is_read_and_no_redirect_followed",
    ),
)

# --- who may ask the control plane -----------------------------------------------------------------------------------

_OWNERSHIP: Final = "control_plane/ownership.py"
_CONTROL: Final = "tests/control_plane/"

_CALLERS: Final = (
    Guard(
        "a role for the path",
        "control_plane/callers.py",
        "return not caller.roles.isdisjoint(PERMISSIONS.get((method, path), frozenset()))",
        "return True",
        f"{_CONTROL}test_callers.py::test_who_may",
    ),
    Guard(
        "an id of another organization",
        _OWNERSHIP,
        "if await owners.organization_of(tx, kind.model, row_id) != caller.organization_id:",
        "if await owners.organization_of(tx, kind.model, row_id) is None:",
        f"{_CONTROL}test_ownership.py::test_only_its_own_things",
    ),
    Guard(
        "another organization by its name",
        _OWNERSHIP,
        'raise Refused(ControlCode.FORBIDDEN, "this key is for another organization")',
        "return organization_id",
        f"{_CONTROL}test_ownership.py::test_only_its_own_organization",
    ),
    Guard(
        "credentials of a disabled target",
        "control_plane/resolution.py",
        "if offer is not None and not offer.is_enabled:",
        "if False:",
        f"{_CONTROL}test_keeper.py::test_what_the_operator_disabled_gives_nothing_though_it_is_valid",
    ),
    Guard(
        "a revoked API key",
        "control_plane/api_keys.py",
        "key.revoked_at is not None or ",
        "",
        f"{_CONTROL}test_api_keys.py::test_a_revoked_key_opens_nothing_at_once",
    ),
    Guard(
        "an API key that ended",
        "control_plane/api_keys.py",
        " or (key.expires_at is not None and key.expires_at <= now)",
        "",
        f"{_CONTROL}test_api_keys.py::test_a_key_names_its_caller",
    ),
    Guard(
        "another request by the same idempotency key",
        "control_plane/idempotency.py",
        "if kept.digest != digest:",
        "if False:",
        f"{_CONTROL}test_idempotency.py::test_the_same_request_gets_the_same_answer",
    ),
    Guard(
        "two requests at once by the same idempotency key",
        "control_plane/idempotency.py",
        "if kept.status == _UNANSWERED:\n                detail",
        "if False:\n                detail",
        f"{_CONTROL}test_idempotency.py::test_of_many_at_once_one_is_served",
    ),
)

# --- a client of a feed ----------------------------------------------------------------------------------------------

_FEED_STATE: Final = "control_client/feed_state.py"
_RECEIVER: Final = "control_client/push_receiver.py"
_RELOAD: Final = "control_client/reload.py"
_TEST_CLIENT: Final = "tests/control_client/"
_NOT_APPLIED: Final = f"{_TEST_CLIENT}test_feed_state.py::test_what_is_not_applied_says_why"
_UNSHOWN: Final = f"{_TEST_CLIENT}test_push_receiver.py::test_whoever_shows_no_secret_is_told_so_and_nothing_is_done"

_FEEDS: Final = (
    Guard("pushes of other instances", _FEED_STATE, "if push.instance_id != instance_id:", "if False:", _NOT_APPLIED),
    Guard("old pushes", _FEED_STATE, "known.at is not None and push.seq <= known.at:", "False:", _NOT_APPLIED),
    Guard("gaps between pushes", _FEED_STATE, "known.at is None or push.prev_seq > known.at:", "False:", _NOT_APPLIED),
    Guard(
        "installations of other users",
        _FEED_STATE,
        "if push.user_id != user_id:",
        "if False:",
        f"{_TEST_CLIENT}test_feed_state.py::test_another_user_s_installation_moves_the_order_alone",
    ),
    Guard(
        "an ETag from before a push",
        _FEED_STATE,
        "push.seq, None, known.is_stale)",
        "push.seq, known.etag, known.is_stale)",
        f"{_TEST_CLIENT}test_follow.py::test_no_old_etag_hides_that_the_feed_went_back",
    ),
    Guard("the secret of a push", _RECEIVER, "if shown == secret:", "if True:", _UNSHOWN),
    Guard("the scheme of a push's secret", _RECEIVER, 'if scheme.lower() != "bearer":', "if False:", _UNSHOWN),
    Guard(
        "the signature of a push",
        _RECEIVER,
        "if not self._is_genuine(request, tier, body):",
        "if False:",
        f"{_TEST_CLIENT}test_push_receiver.py::test_a_signature_is_checked_where_there_is_one",
    ),
    Guard(
        "the time of a push",
        "control_client/push_signature.py",
        " or abs(now - int(timestamp)) > TOLERANCE_SECONDS:",
        ":",
        f"{_TEST_CLIENT}test_push_signature.py::test_a_message_is_of_now",
    ),
    Guard(
        "a key in cleartext",
        "control_client/feed_key.py",
        'if parts.scheme != "https" and not is_loopback(host) and host != self._cleartext_host:',
        "if False:",
        f"{_TEST_CLIENT}test_feed_key.py::test_in_cleartext_it_goes_no_further_than_it_does_anyway",
    ),
    Guard(
        "no key for another tier's calls",
        "control_client/tool_client.py",
        "side = self._sides.get(tier)\n        if side is None:\n            raise",
        "side = next(iter(self._sides.values()), None)\n        if side is None:\n            raise",
        f"{_TEST_CLIENT}test_tool_client.py::test_no_key_stands_in_for_the_other",
    ),
    Guard(
        "no second time for a call that may have begun",
        _RELOAD,
        "(error.code == CUT and tool.is_repeatable)",
        "error.code == CUT",
        f"{_TEST_CLIENT}test_reload.py::test_a_server_that_comes_back_gets_its_waiting_calls_and_no_cut_one_twice",
    ),
    Guard(
        "no third time for a call that was cut",
        _RELOAD,
        " or (is_cut and was_cut)",
        "",
        f"{_TEST_CLIENT}test_reload.py::test_a_call_that_is_cut_twice_is_not_made_a_third_time",
    ),
)

# --- what runs on workers --------------------------------------------------------------------------------------------

_WORKERS: Final = "control_plane/workers.py"
_PLAN_SERVERS: Final = "worker/plan_servers.py"
_DECLARED: Final = "worker/declared_servers.py"
_TEST_WORKERS: Final = "tests/control_plane/test_workers.py::"
_TEST_PLAN_SERVERS: Final = "tests/worker/test_plan_servers.py::"
_TEST_DECLARED: Final = "tests/worker/test_declared_servers.py::"

_SERVERS: Final = (
    Guard(
        "the report of a process that was replaced",
        _WORKERS,
        "if known.epoch > epoch:",
        "if False:",
        f"{_TEST_WORKERS}test_an_older_epoch_changes_nothing_also_when_the_newer_one_is_lost",
    ),
    Guard(
        "its end",
        _WORKERS,
        "known is None or known.epoch > epoch or known.state == WorkerState.WITHDRAWN",
        "known is None or known.state == WorkerState.WITHDRAWN",
        f"{_TEST_WORKERS}test_an_older_epoch_changes_nothing_also_when_the_newer_one_is_lost",
    ),
    Guard(
        "what a lost worker ran",
        _WORKERS,
        "return worker.state == WorkerState.LIVE and worker.expires_at > now",
        "return worker.state == WorkerState.LIVE",
        f"{_TEST_WORKERS}test_a_lease_that_ran_out_takes_everything_with_it_and_is_told_once",
    ),
    Guard(
        "a token in cleartext",
        "control_client/worker_calls.py",
        'if parts.scheme != "https" and not is_loopback(parts.hostname or ""):',
        "if False:",
        "tests/control_client/test_worker_calls.py::test_no_token_goes_in_cleartext_off_loopback",
    ),
    Guard(
        "a plan that is older than what was provided",
        _PLAN_SERVERS,
        "if newest > revision:",
        "if False:",
        f"{_TEST_PLAN_SERVERS}test_an_older_revision_is_refused",
    ),
    Guard(
        "taking away what the plan in force names",
        _PLAN_SERVERS,
        "if (now := in_force[sandbox]) is not None and now.revision < revision",
        "if False",
        f"{_TEST_PLAN_SERVERS}test_an_application_that_failed_takes_nothing_from_the_plan_in_force",
    ),
    Guard(
        "removing what an operator had installed, for a plan",
        _PLAN_SERVERS,
        'if integration.stored.owner == "plans" and not integration.stored.wanted_by:',
        "if not integration.stored.wanted_by:",
        f"{_TEST_PLAN_SERVERS}test_what_a_newer_plan_has_no_more_goes_when_that_is_in_force",
    ),
    Guard(
        "removing what an operator had installed, for the control plane",
        _DECLARED,
        "for each in self._integrations.list() if each.stored.owner == _OWNER}",
        "for each in self._integrations.list()}",
        f"{_TEST_DECLARED}test_what_others_had_installed_is_not_touched",
    ),
    Guard(
        "taking everything away while the control plane is away",
        _DECLARED,
        "raise CannotTell(str(error)) from None",
        "return {}",
        f"{_TEST_DECLARED}test_a_control_plane_that_is_away_takes_nothing_away",
    ),
)

# --- a sandbox has no other way out ----------------------------------------------------------------------------------

_SECCOMP: Final = "worker/sandboxes/seccomp.py"
_DEPUTY: Final = "tests/sandboxd/deputy/"
_SANDBOXES: Final = "tests/worker/sandboxes/"

_NO_OTHER_WAY: Final = (
    Guard(
        "families of sockets",
        _SECCOMP,
        "SOCKET_FAMILIES: Final = (1, 2, 10, 16)",
        "SOCKET_FAMILIES: Final = (1, 2, 10, 16, 40)",
        f"{_SANDBOXES}test_seccomp.py::test_sockets_of_this_network_alone",
    ),
    Guard(
        "sockets that no filter sees",
        _SECCOMP,
        "for number in (*_IO_URING, _CLONE3):",
        "for number in (_CLONE3,):",
        f"{_SANDBOXES}test_seccomp.py::test_what_no_filter_could_look_into_is_not_there",
    ),
    Guard(
        "another machine's calls",
        _SECCOMP,
        "        (_EQUAL, 1, 0, architecture.audit),",
        "        (_EQUAL, 1, 1, architecture.audit),",
        f"{_SANDBOXES}test_seccomp.py::test_calls_of_another_machine_are_not_there",
    ),
    Guard(
        "an address of an open connection",
        "sandboxd/core/names.py",
        "            if not entry.uses:\n",
        "            if True:\n",
        "tests/sandboxd/core/test_names.py::test_where_every_address_is_in_use_a_name_gets_none",
    ),
    Guard(
        "an address that was told lately",
        "sandboxd/core/names.py",
        "            if entry.valid_until > now:\n                break\n",
        "",
        "tests/sandboxd/core/test_names.py::test_a_name_that_is_asked_for_again_stays_longer",
    ),
    Guard(
        "set-up in the wrong place",
        "sandboxd/deputy/delegated_setup.py",
        "    if _does_something(document):\n",
        "    if False:\n",
        f"{_DEPUTY}test_delegated_setup.py::test_without_a_door_nothing_is_set_up",
    ),
    Guard(
        "one deputy at a time",
        "sandboxd/deputy/door.py",
        "if self._link is not None or self.clock.now < self._next_at:",
        "if self.clock.now < self._next_at:",
        f"{_DEPUTY}test_door.py::test_one_at_a_time",
    ),
    Guard(
        "streams of a deputy",
        "sandboxd/deputy/door.py",
        'self._refuse("it opens a stream")',
        "pass",
        f"{_DEPUTY}test_door.py::test_a_deputy_opens_nothing",
    ),
    Guard(
        "a deputy's pace",
        "sandboxd/deputy/door.py",
        "limits=LIMITS, pace=door.pace)",
        "limits=LIMITS)",
        f"{_DEPUTY}test_door.py::test_more_messages_than_a_deputy_needs",
    ),
    Guard(
        "how often a deputy's statuses go on",
        "sandboxd/deputy/delegated_setup.py",
        "        if self._status_timer is None:\n            self._send_untold()",
        "        self._send_untold()",
        f"{_DEPUTY}test_delegated_setup.py::test_statuses_go_on_four_times_a_second_at_most",
    ),
    Guard(
        "text of a deputy that a terminal would obey",
        "sandboxd/deputy/status.py",
        "return text if text.isprintable() else",
        "return text if True else",
        f"{_DEPUTY}test_status.py::test_what_cannot_be_shown_becomes_a_space",
    ),
)

# --- what clients are served ------------------------------------------------------------------------------------------

_MERGE: Final = "control_plane/feed/merge.py"
_ADMISSION: Final = "control_plane/feed/admission.py"
_CLIENT_FEED: Final = "control_plane/api/client_feed.py"
_FRONT_ADMISSION: Final = "worker/integrations/front_admission.py"
_SESSIONS: Final = "sallyport/mcp/sessions.py"
_TEST_SESSIONS: Final = "tests/sallyport/mcp/test_sessions.py::"
_TEST_MERGE: Final = "tests/control_plane/feed/test_merge.py::"
_TEST_ADMISSION: Final = "tests/control_plane/feed/test_admission.py::"
_TEST_CLIENT_FEED: Final = "tests/control_plane/api/test_client_feed.py::"
_TEST_FRONT_ADMISSION: Final = "tests/worker/integrations/test_front_admission.py::"

_SERVED: Final = (
    Guard(
        "a tier's own servers",
        "control_plane/feed/tiers.py",
        "return self is Tier.ADMIN or other is Tier.STANDARD",
        "return True",
        "tests/control_plane/feed/test_tiers.py::test_what_a_tier_sees",
    ),
    Guard(
        "a user's own servers",
        _MERGE,
        "return tier.sees(self.tier) and self.user_id in (None, user_id)",
        "return tier.sees(self.tier)",
        f"{_TEST_MERGE}test_what_a_user_installed_and_the_built_in_server",
    ),
    Guard(
        "a worker that lets others call a server than it is listed for",
        _MERGE,
        "if report.tier != tier:",
        "if False:",
        f"{_TEST_MERGE}test_what_is_not_wanted_or_cannot_be_called_or_is_of_another_tier_there_is_not_served",
    ),
    Guard(
        "what a standard subscriber is told",
        "control_plane/feed/changes.py",
        "added = tuple(each for each in self.added if tier.sees(each.tier))",
        "added = self.added",
        "tests/control_plane/feed/test_changes.py::test_what_a_tier_may_see_of_a_change",
    ),
    Guard(
        "another instance's feed",
        _CLIENT_FEED,
        "if instance_id != holder.instance_id:",
        "if False:",
        f"{_TEST_CLIENT_FEED}test_who_is_not_answered",
    ),
    Guard(
        "a key that was revoked",
        "control_plane/feed/keys.py",
        "if key is None or key.revoked_at is not None:",
        "if key is None:",
        "tests/control_plane/feed/test_keys.py::test_a_revoked_key_opens_nothing_and_is_told",
    ),
    Guard(
        "an admin's key in a member's hands",
        "control_plane/api/instances.py",
        "if body.tier not in tiers:",
        "if False:",
        "tests/control_plane/api/test_instances.py::test_a_member_makes_and_sees_standard_keys_alone",
    ),
    Guard(
        "the tier of what is called",
        _ADMISSION,
        "if holder.tier.sees(Tier(row.tier)) and (row.desired == RUNNING or row.leaves_at is not None):",
        "if row.desired == RUNNING or row.leaves_at is not None:",
        f"{_TEST_ADMISSION}test_what_is_there_for_a_key_and_what_looks_like_nothing",
    ),
    Guard(
        "a deleted sandbox, or another organization's",
        _ADMISSION,
        "if await rows.organizations_of(tx, [sandbox_id]) != {sandbox_id: holder.organization_id}:",
        "if False:",
        f"{_TEST_ADMISSION}test_servers_of_sandboxes_are_behind_the_gateway_that_has_the_tunnel",
    ),
    Guard(
        "names that are ours",
        "control_plane/feed/servers.py",
        "if _SEPARATOR in text or text == BUILT_IN_NAME:",
        "if False:",
        "tests/control_plane/feed/test_servers.py::test_names_that_are_ours_or_taken",
    ),
    Guard(
        "what was said a second ago",
        _FRONT_ADMISSION,
        "if said is not None and self._clock() < said.at + FRESH_SECONDS:",
        "if said is not None:",
        f"{_TEST_FRONT_ADMISSION}test_what_the_control_plane_says_is_believed_for_a_second",
    ),
    Guard(
        "a key that nobody can be asked about",
        _FRONT_ADMISSION,
        "self._clock() < said.at + self._stale_seconds",
        "True",
        f"{_TEST_FRONT_ADMISSION}test_while_it_cannot_be_asked_what_it_said_last_goes_on_for_a_while",
    ),
    Guard(
        "a gateway's token in cleartext",
        "worker/integrations/sandbox_passages.py",
        'if parts.scheme != "https" and not is_loopback(parts.hostname or ""):',
        "if False:",
        "tests/worker/integrations/test_sandbox_passages.py::test_a_token_does_not_travel_in_cleartext",
    ),
    Guard(
        "the session of another key",
        _SESSIONS,
        "place.owner != owner or ",
        "",
        f"{_TEST_SESSIONS}test_a_session_is_found_by_its_owner_alone",
    ),
    Guard(
        "what OpenSSL holds for a connection that has ended",
        "sallyport/net/tls.py",
        "        self._object = _NO_OBJECT\n",
        "",
        "tests/sallyport/net/test_tls.py::test_one_that_has_ended_holds_nothing_of_openssl",
    ),
    Guard(
        "the ring of a relay that is over",
        "sallyport/net/relay.py",
        "self._up = self._down = up.other = down.other = _GONE",
        "pass",
        "tests/sallyport/net/test_relay.py::test_one_that_is_over_is_no_ring",
    ),
    Guard(
        "a session with a request to answer, where another wants its place",
        _SESSIONS,
        " and not self.session.is_asked",
        "",
        f"{_TEST_SESSIONS}test_who_has_something_to_do_does_not_give_way",
    ),
    Guard(
        "the caller that has most, where somebody wants a place",
        _SESSIONS,
        "-share[place.owner.caller]",
        "0",
        f"{_TEST_SESSIONS}test_who_has_most_gives_way_first",
    ),
    Guard(
        "a caller's share of a server",
        _SESSIONS,
        "(of_caller, limits.sessions_of_caller), ",
        "",
        f"{_TEST_SESSIONS}test_a_caller_has_its_share_of_a_server_and_no_more",
    ),
    Guard(
        "a process that gives way and is not gone",
        _SESSIONS,
        "await asyncio.wait({before.task})",
        "await asyncio.sleep(0)",
        f"{_TEST_SESSIONS}test_there_are_never_more_processes_than_places",
    ),
    Guard(
        "a process that is being ended when it is ended once more",
        _SESSIONS,
        "if place.session is None or not place.session.is_over:",
        "if True:",
        f"{_TEST_SESSIONS}test_a_program_that_is_heard_no_more_has_the_time_to_end",
    ),
    Guard(
        "a place that was asked for by somebody who went",
        _SESSIONS,
        "before.is_taken_over = False",
        "pass",
        f"{_TEST_SESSIONS}test_who_goes_while_another_gives_way_gives_the_place_back",
    ),
    Guard(
        "a session whose begin nobody waits for",
        _SESSIONS,
        "            if not place.is_up:\n                self._end(place)",
        "            pass",
        f"{_TEST_SESSIONS}test_who_goes_before_the_answer_leaves_no_process",
    ),
    Guard(
        "a session that nobody asks or listens to",
        _SESSIONS,
        "if session.is_idle:",
        "if False:",
        f"{_TEST_SESSIONS}test_one_that_nobody_asks_or_listens_to_ends",
    ),
    Guard(
        "the processes of sessions with a server that is stopped",
        "worker/integrations/integration.py",
        "return owner.server == self.id",
        "return False",
        "tests/worker/integrations/test_front.py::test_they_end_with_their_server[stop]",
    ),
    Guard(
        "what left the group of a session's process",
        "worker/integrations/stdio_server.py",
        "await asyncio.to_thread(end_orphans, MARK, self._mark)",
        "pass",
        "tests/worker/integrations/test_front.py::test_a_deleted_session_leaves_nothing",
    ),
    Guard(
        "whoever is gone, at the front",
        "worker/integrations/front_exchange.py",
        "serving.cancel()",
        "pass",
        "tests/worker/integrations/test_front_exchange.py::test_whoever_is_gone_is_served_no_more",
    ),
)

# --- who is told of that, and who runs things by MCP ------------------------------------------------------------------

_STEPS: Final = "control_plane/push/steps.py"
_PUSH_DESK: Final = "control_plane/push/subscribers.py"
_BUILT_IN: Final = "control_plane/api/built_in/server.py"
_TEST_STEPS: Final = "tests/control_plane/push/test_steps.py::"
_TEST_PUSH_API: Final = "tests/control_plane/api/test_push_subscribers.py::"
_TEST_BUILT_IN: Final = "tests/control_plane/api/built_in/test_server.py::"

_TOLD: Final = (
    Guard(
        "push: events nobody asked for",
        _STEPS,
        "is_wanted = not terms.events or change.event in terms.events",
        "is_wanted = True",
        f"{_TEST_STEPS}test_events_that_nobody_asked_for",
    ),
    Guard(
        "push: a hole in what is kept",
        _STEPS,
        "if not changes or changes[0].revision != cursor.seen + 1:",
        "if not changes:",
        f"{_TEST_STEPS}test_what_is_kept_no_more_is_told_without_a_delta",
    ),
    Guard(
        "push: a change of others that is told without a delta",
        _STEPS,
        "is_of_others = not has_any and (change.added or change.removed)",
        "is_of_others = False",
        f"{_TEST_STEPS}test_that_something_changed_for_admins_is_told_to_admins",
    ),
    Guard(
        "push: a lease that was lost",
        "control_plane/push/emitter.py",
        "if row is None or row.owner != self._owner:",
        "if row is None:",
        "tests/control_plane/push/test_emitter.py::test_a_late_result_of_a_lost_lease_changes_nothing",
    ),
    Guard(
        "push: cleartext over a network",
        "control_plane/outbound/url.py",
        "is_plain_on_loopback and is_loopback(destination.host)",
        "is_plain_on_loopback",
        "tests/control_plane/outbound/test_url.py::test_https_or_this_machine",
    ),
    Guard(
        "push: a subscriber of the configuration",
        _PUSH_DESK,
        "if row.is_configured:",
        "if False:",
        "tests/control_plane/push/test_subscribers.py::test_what_is_refused",
    ),
    Guard(
        "push: a subscriber of another tier",
        _PUSH_DESK,
        "if row is None or row.tier not in tiers:",
        "if row is None:",
        f"{_TEST_PUSH_API}test_a_member_has_those_of_its_organization_and_of_the_tier_standard",
    ),
    Guard(
        "push: a subscriber of the tier admin that a member makes",
        "control_plane/api/push_subscribers.py",
        "if body.tier not in tiers:",
        "if False:",
        f"{_TEST_PUSH_API}test_a_member_has_those_of_its_organization_and_of_the_tier_standard",
    ),
    Guard(
        "built-in: a key of the tier standard",
        _BUILT_IN,
        "if client.tier is not Tier.ADMIN:",
        "if False:",
        f"{_TEST_BUILT_IN}test_only_a_key_of_the_tier_admin_opens_it",
    ),
    Guard(
        "built-in: an id that leads to another path",
        "control_plane/api/built_in/tools.py",
        "if segment is None or _SEGMENT.fullmatch(segment) is None:",
        "if segment is None:",
        "tests/control_plane/api/built_in/test_tools.py::test_what_no_call_can_be",
    ),
    Guard(
        "built-in: another instance of the organization",
        "control_plane/ownership.py",
        "if instance_id is not None and instance_id != caller.instance_id:",
        "if False:",
        f"{_TEST_BUILT_IN}test_a_key_opens_its_own_instance_alone",
    ),
    Guard(
        "built-in: a name that was rebound",
        _BUILT_IN,
        "security_settings=_security(parts.public_url),",
        "security_settings=None,",
        f"{_TEST_BUILT_IN}test_pages_of_the_web_are_kept_out",
    ),
)

_ORDERS: Final = (
    *(
        Guard(
            f"what takes away {what}",
            "gateway/core/plan_reach.py",
            guard,
            "False",
            f"{_CORE}test_plan_reach.py::test_a_newer_plan",
        )
        for what, guard in (
            ("a rule or a way in", "any(old[name] != new[name] for name in _DECIDING)"),
            ("a binding", "not _bindings(old) <= _bindings(new)"),
            ("opaque bytes by a route", "not set(_claims(new)) <= set(_claims(old))"),
        )
    ),
    Guard(
        "what takes something away is compiled beside the others",
        "gateway/plan_holder.py",
        "if turn.locked() and self.takes_away(sandbox_id, body):",
        "if False:",
        "tests/gateway/test_plan_holder.py::test_what_takes_something_away_is_compiled_beside_what_does_not",
    ),
    Guard(
        "what takes something away is compiled before what was fetched sooner",
        "gateway/plan_bodies.py",
        "            await self._let_others_be_fetched()\n",
        "            pass\n",
        "tests/gateway/test_plan_bodies.py::"
        "test_a_plan_that_takes_something_away_is_put_in_force_before_those_that_came_first",
    ),
    Guard(
        "what takes something away has a lane of its own",
        "gateway/processes/fleet.py",
        "    if is_taking_away:\n",
        "    if False:\n",
        "tests/gateway/processes/test_serving_process.py::"
        "test_a_plan_that_takes_something_away_does_not_wait_for_those_that_do_not",
    ),
    Guard(
        "the second order of a plan that its first compiles",
        "gateway/admin/orders.py",
        "await self._in_turn.wait(change)",
        "pass",
        "tests/gateway/admin/test_orders.py::"
        "test_of_the_two_orders_of_a_plan_the_second_is_answered_when_it_is_in_force",
    ),
    Guard(
        "the turn of a plan that compiles ahead of it",
        "gateway/admin/orders.py",
        "await self._ahead.wait(change)",
        "pass",
        "tests/gateway/admin/test_orders.py::"
        "test_of_the_two_orders_of_a_plan_the_second_is_answered_when_it_is_in_force",
    ),
    Guard(
        "what is no request, told by a problem document",
        "control_plane/api/server.py",
        "        Parting(self._clock, self.transport, answer, lambda: self.connection_lost(None)).begin()",
        "        super().send_400_response(msg)",
        "tests/control_plane/api/test_server.py::test_what_cannot_be_read_is_refused_as_all_else_is",
    ),
)

GUARDS: Final = (
    *_SLOT_REMOVAL,
    *_SIGNED,
    *_LINE_ENDS,
    *_PLACEHOLDERS,
    *_DECISIONS,
    *_ADDRESSES,
    *_LOOPS,
    *_TOKEN_CHECKS,
    *_KEYS,
    *_FRAMING,
    *_HOP,
    *_AGREEMENT,
    *_SCRUBBING,
    *_CODED,
    *_LIMITS,
    *_WAY_OUT,
    *_TUNNELS,
    *_WEBHOOKS,
    *_CALLERS,
    *_FEEDS,
    *_SERVERS,
    *_NO_OTHER_WAY,
    *_SERVED,
    *_TOLD,
    *_ORDERS,
)

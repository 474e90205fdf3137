"""What sandboxd decides: where a connection goes, when to try the gateway again, which token to show. PURE."""

"""For programs that were written for other RPC libraries."""

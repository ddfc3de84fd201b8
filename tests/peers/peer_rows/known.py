"""Rows that cannot pass, each with its reason: rounding that any difference has."""

KNOWN: dict[str, str] = {}

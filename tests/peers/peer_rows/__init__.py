"""The table: inputs of peers' tests and of reports, each with its right value and its source."""

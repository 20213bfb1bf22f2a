"""A bank's files: SQLite is the truth, activations and vector indexes are derived from it. All SQL is here."""

"""Texts in, vectors out: knows no queue and no database, and could serve any other program."""

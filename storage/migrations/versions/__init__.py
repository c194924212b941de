"""One module a revision, numbered, never edited once released."""

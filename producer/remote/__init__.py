"""The asking side over HTTP: the same as over storage, for whoever has neither Redis nor the database at hand."""

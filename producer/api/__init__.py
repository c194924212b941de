"""The asking side over HTTP: our own routes, OpenAI's and TEI's dialects, and the page."""

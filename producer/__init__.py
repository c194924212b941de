"""The asking side: submit, poll, fetch; never imports torch, transformers or the worker."""

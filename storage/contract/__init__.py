"""What producers and workers agreed: errors, ids, messages, options, settings, states, broker settings."""

"""What `embedmill doctor` looks at in Redis, in the database and in what both hold; each check ends in a sentence."""

"""OpenAI's dialect: a program written for it works against us when its base URL is changed."""

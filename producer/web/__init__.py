"""The page: what a browser shows of jobs, workers and tokens."""

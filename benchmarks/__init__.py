"""What is measured of Embedmill and its peers, and how: each script is run with `python -m benchmarks.NAME`."""

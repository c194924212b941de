"""The encoder computed by OpenVINO on a CPU: exported and quantised by ourselves, kept in the user's cache folder."""

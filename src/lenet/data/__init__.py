"""Data sets: found or downloaded, verified, and drawn as batches."""

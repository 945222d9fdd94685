"""One recipe under many seeds, or under several settings and many seeds."""

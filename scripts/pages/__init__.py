"""The tables that README.md and docs show, a module for each page; `tables.py` writes them."""

"""A plugin written against the names of before, kept as it was: tests/test_old_names.py shows that it still loads, with its warnings."""

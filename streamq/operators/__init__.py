"""Incremental operators: an epoch's changes in, the changes of the result out. One operator a file."""

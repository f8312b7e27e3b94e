"""Operators: one record per operator, one file per family."""

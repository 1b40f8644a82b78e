"""The study and its book: runs, tables, figures and pages. It is no part of the wheel."""

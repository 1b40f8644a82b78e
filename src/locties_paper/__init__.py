"""The study and its book: runs, tables, figures and pages. The wheel does not contain it."""

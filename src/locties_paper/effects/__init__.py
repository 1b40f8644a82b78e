"""The six claims of the study, each with its test."""

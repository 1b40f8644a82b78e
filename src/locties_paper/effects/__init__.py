"""Effects with their intervals: one file a question."""

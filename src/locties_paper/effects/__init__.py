"""What the study claims, tested on its rows."""

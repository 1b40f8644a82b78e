"""What alignment erases."""

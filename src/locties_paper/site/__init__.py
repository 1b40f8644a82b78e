"""Tools for the book: notebook parameters, downloads and the PDF."""

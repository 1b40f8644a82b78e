"""What the book needs beside its pages: notebook parameters, downloads, PDF."""

"""Protocol strings as data files."""

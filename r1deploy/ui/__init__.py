"""What the user sees: calm lines, tables, JSON."""

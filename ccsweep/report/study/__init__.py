"""A study as people see it: live while it runs, and as a page when it has ended."""

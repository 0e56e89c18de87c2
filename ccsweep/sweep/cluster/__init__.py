"""What a sweep needs where there are several hosts."""

"""One's own data: files of many forms, and what becomes of them."""

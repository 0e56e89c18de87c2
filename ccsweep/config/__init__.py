"""What can be configured: the schema, its checks, and what to say of a mistake."""

"""Ways of serving: one class each, pure."""

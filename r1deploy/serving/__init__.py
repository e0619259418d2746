"""The service: its endpoint, the gate, switching between releases."""

"""The models that the engine can answer with: found, described, pulled, made."""

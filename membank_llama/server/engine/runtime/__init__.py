"""The models that are loaded, and who may use them when."""

"""What every room stands on: errors, values, texts, paths, child processes. Imports nothing of the package."""

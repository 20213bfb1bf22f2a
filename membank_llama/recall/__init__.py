"""From a question to ranked memories: candidates, signals, ranking, and the gate that says what is relevant."""

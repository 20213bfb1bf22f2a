"""The Hierarchical Gradient Number System: its gradient, and the three levels a vector is stored in.

Import from the modules: `gradient` (the mathematics), `hierarchy` (the levels), `base` (what a codec is).
"""

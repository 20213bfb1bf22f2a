"""Long work on a whole bank: verify, compact, calibrate, rewrite."""

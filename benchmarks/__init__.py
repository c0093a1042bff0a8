"""Speed, as ratios of two ways that are measured in turn in one run. `python -m benchmarks` runs all of them."""

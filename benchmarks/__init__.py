"""Full-size benchmarks of speed, memory and correctness, run by hand or by `make bench`."""

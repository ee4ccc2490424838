"""What is slow and what is right at full size: scripts to run by hand or by `make bench`."""

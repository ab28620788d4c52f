"""What the project costs and how well it does, measured. Results with machine and date are in README.md."""

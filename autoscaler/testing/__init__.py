"""What is promised, as suites to run on your own code: policies and adapters, ours and yours."""

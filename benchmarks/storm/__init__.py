"""A storm: a cluster of 10 000 pods, of which three in ten fail at once after a bad rollout, and a node is lost.

`make bench-storm` starts a real API server with its controllers and scheduler, and kwok in place of kubelets. The service runs as it is
deployed, with an account that may evict; it has to tell one incident for each cause, and to touch nothing.
"""

"""Kubernetes: the only package that imports its client, and that only for configuration, authentication and transport.

login      which API server and who we are: kubeconfig or service account
client     one bounded request, or a stream; every failure becomes one of our errors
calls      a request by what it means to RBAC, and what refusals of it mean
discovery  where a kind is kept, and whether it can be scaled
reflector  list and watch: a current copy of all objects of a kind, or the knowledge that it is not current
targets    the port Cluster over all that
"""

"""Kubernetes: the only package that imports its client, and that only for configuration, authentication and transport.

    login         which API server, and who we are there: kubeconfig or service account
    client        one bounded request, or a stream; every failure becomes one of our errors
    calls         a request by what it means to RBAC, and what refusals of it mean
    discovery     where a kind is kept, and whether it can be scaled
    wire          the fields that are read
    reflector     list and watch: a current copy of all objects of a kind, or the knowledge that it is not current
    targets       the port Cluster: which watches run, and facts by workload
    kind          the targets of one kind: facts from a reflector, what is missing, writes that the watch has not shown yet
    subresource   … where only /scale tells the count
    scale         reading /scale, and writing it by compare-and-swap
    namespaces    whether a namespace exists
    backoff       how long to wait before trying again

To open it: ``client = await Client.connect(find_login(kubeconfig, context))``, then
``KubernetesCluster(Around(client, clock, recorder, random), namespaces)``; whoever connected the client closes it.
"""

"""The real HPA beside ours, in lock-step: the same counts, pods and metrics for both, and what each makes of them.

    cases.py     seeded HPAs: bounds, behaviour, metrics; as Kubernetes reads them and as our core does
    world.py     the pods and loads of one HPA, from pass to pass
    journal.py   what an HPA was told in one pass, and what it wrote
    server.py    the aggregated APIs on loopback: metrics, custom metrics, external metrics, and the /scale of the targets
    lockstep.py  the run: control plane, pods, HPAs, until every HPA has made its passes
    follow.py    our decisions over the journal

The scale targets are served by the fake too, so that a pass is seen from its first request (GET /scale) to its last (PUT /scale), also
where it asks for no metric. HPAs, pods and the aggregator are the API server's own.
"""

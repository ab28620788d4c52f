"""What our loop and the real HPA controller cost, and how fast they react: the same Deployments, loads and API server for both.

    python -m benchmarks.hpa --workloads 1000

    steps.py     seeded load steps, one a minute for each workload, and which patch answers which step
    source.py    where both controllers read the loads: the external metrics API for the HPA, a real Prometheus for ours
    server.py    the API server: objects made and deleted, its own count of requests, and a watch that tells when a count was written
    usage.py     processor time and memory of a process, from /proc
    rig.py       etcd, API server, Prometheus, and one controller at a time
    phase.py     one controller under load: settle, measure, wait for the last answers
    report.py    phases side by side

A phase runs one controller alone. Processor time is what the kernel counts for its process; the source's is in neither.
"""

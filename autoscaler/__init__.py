"""Scales Kubernetes workloads by their load and watches over their pods' health.

=============  ==========================================================================================================
word           meaning
=============  ==========================================================================================================
workload       what is scaled: anything with a ``/scale`` subresource
signal         one metric of one workload over time
demand         load / what one replica should carry: the replicas, a float, that would run exactly at target
tick           one pass of the scaling loop over one group of workloads; its stages are observe, propose, guard, decide,
               apply, report
proposal       the replicas that a policy wants, before guards
series         one signal of one workload: a column
guard          a rule that may change or hold a proposal
decision       current, proposed and final replicas with the reason of every change
plant          the model of one workload: load -> ready pods -> backlog and lateness
=============  ==========================================================================================================

::

    MetricSource --+                                              +--> Cluster.scale --> replicas
                   +--> Observation --> policies --> guards --> Decision
    Cluster -------+     (columns)     (proposals)                +--> Recorder, log, /api/v1

The core (:mod:`autoscaler.core`) is pure and works in columns: no I/O, no clock, no logging. Asyncio loops
(:mod:`autoscaler.loops`) turn around it, adapters (:mod:`autoscaler.adapters`) stand at the rim.
"""

__version__ = "0.1.0"

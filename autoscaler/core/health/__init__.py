"""What is wrong with pods: judged without I/O, told once, and acted upon only where that helps.

::

    facts of pods, owners, nodes ─► judge ─► assess ─► Findings ─► lifecycle ─► what there is to say
                                                          ├──────► breaker, remedies ─► Act or Refuse, with the reason
                                                          └──────► verdict ─► HealthFacts of the scaling loop

A *symptom* is what one container of one pod shows; a *finding* is one cause in one container of one workload, whatever the number of its
pods and restarts; an *incident* is a finding with its life: pending, firing, flapping, resolved.
"""

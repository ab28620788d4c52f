"""Policy files: YAML that people write, checked to the last field, turned into the core's specs.

===============  ===========================================================================================================
module           what it does
===============  ===========================================================================================================
``positions``    YAML to plain values, with the line and column of each
``schema``       what a ScalingPolicy may say: pydantic models, HPA v2's names and units
``health``       what a HealthPolicy may say, and the core's spec of it
``durations``    ``5m``, ``1h30m``; ``quantities``: ``85``, ``1500m``, ``2Gi``; ``schedule``: cron windows
``parameters``   the parameters of a policy, as a file gives them
``checks``       what two fields say together, and what is worth a warning
``messages``     a mistake in words: what, and what would be right
``specs``        a checked document to a :class:`autoscaler.core.spec.WorkloadSpec`
``load``         files and directories, every mistake at once
``reload``       a directory that changes
``editors``      JSON Schema
===============  ===========================================================================================================
"""

"""Measurements of streamq against DuckDB itself, as ratios from one run on one machine.

::

    python -m benchmarks.scan          scans, GROUP BY, top-n, first batch and cancellation, against DuckDB
    python -m benchmarks.stalled       memory of all processes while a reader stalls
    python -m benchmarks.concurrent    two hundred queries at once; small queries beside full scans
    python -m benchmarks.service       a service: throughput, added latency, a thousand followers

Each prints a table and ends within a few minutes. The data is made once, in a directory below the system's temporary
directory. Times vary from machine to machine and from hour to hour: only ratios of one run say something.
"""

"""Measure this library against its predecessor 0.2.0 and against floors, in one run.

    python -m tests.benchmarks [--only P1,P3] [--repeat 3] [--json FILE] [--old-python PATH | --ours-only]

``piece``    what is timed: a script of its own that runs under either version's interpreter; the pieces are in
             ``file_pieces``, ``dataset_pieces`` and ``watching_pieces``, their clock in ``measure``, what floors share
             in ``bare``
``cases``    which pieces run on which modelled network, and the goals their figures have to reach: ``file_cases``,
             ``dataset_cases``, ``watching_cases``, ``tuning_cases``, and in ``kinds`` what they are made of
``rivals``   the interpreters that run the pieces: 0.2.0's environment is made here
``runner``   runs the cases, the rivals in turn, and counts what the server saw
``report``   the tables and the JSON file

Absolute figures of a shared machine say little; ratios of runs that took turns say much.
"""

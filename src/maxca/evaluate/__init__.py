"""Registrations judged by one ruler: ours, any checkpoint, greedy, SyN, elastix, and transforms that others made.

``methods`` says what is run, ``run`` runs what is missing and keeps a row for each pair, ``scores`` judges one result,
``statistics`` and ``summary`` say what the rows mean. Nothing large is imported where processes are started: a child's
peak memory counts its parent's.
"""

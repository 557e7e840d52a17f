"""Evaluation of registrations with the same metrics: maxca, any checkpoint, greedy, SyN, elastix, existing transforms.

``methods`` defines the methods, ``run`` computes missing rows, one per pair and method, ``scores`` scores one result,
``statistics`` and ``summary`` analyse the rows. Modules that start processes import nothing large: the peak memory of a
child includes that of its parent.
"""

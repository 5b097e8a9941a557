"""Exact comparison of boxed answers: text cleaned, parsed, evaluated, compared. No model text is
ever executed, and nothing is decided by a floating-point tolerance.

    clean.py      one spelling for many: Unicode, spacing, LaTeX variants, digit groups, units
    parse.py      a bounded LaTeX subset into a tree
    evaluate.py   the value of a tree: rational, modulo primes, to a hundred digits
    shapes.py     lists, sets, tuples, intervals, relations, matrices, texts
    decide.py     is the answer the reference?
"""

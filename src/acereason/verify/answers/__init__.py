"""Exact comparison of boxed answers: text cleaned, parsed, evaluated, compared. No model text is
ever executed, and nothing is decided by a floating-point tolerance.

    clean.py      one spelling for many: Unicode, spacing, LaTeX variants, digit groups, units
    parse.py      a bounded LaTeX subset into a tree
    evaluate.py   are two trees equal? by rational.py, fields.py (modulo primes), reals.py (many
    digits) shapes.py     lists, sets, tuples, intervals, relations, matrices, texts relations.py
    equations, inequalities and the intervals they describe units.py      units and counting words
    decide.py     is the answer the reference? compat.py     the published toolkit's rule, for
    comparison
"""

"""Exact comparison of boxed answers: text cleaned, parsed, evaluated, compared. No model text is
ever executed, and nothing is decided by a floating-point tolerance.

    clean.py      one spelling for many: Unicode, spacing, LaTeX variants, digit groups, currencies
    tokens.py     what a cleaned text is made of
    parse.py      a bounded LaTeX subset into a tree
    rational.py   exact values of rational trees; fields.py: modulo primes; reals.py: to many digits
    evaluate.py   are two trees equal? by one of those three
    shapes.py     lists, sets, tuples, intervals, relations, matrices, times, texts
    units.py      units, currencies and counting words, and what they measure
    texts.py      words, and times of day
    names.py      what may stand left of an equals sign
    brackets.py   cutting a text outside of its brackets
    reading.py    cleaned text into shapes
    relations.py  equations, inequalities and the intervals they describe
    compare.py    are two shapes the same answer?
    whole.py      what may be put to math-verify
    decide.py     is the answer the reference?
    compat.py     the published toolkit's rule, for comparison
"""

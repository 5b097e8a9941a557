"""Running model-written Python where it can neither see an expected output nor touch the machine.

    client.py    in the caller: starts a zygote, hands it jobs as descriptors, reads what came back
    zygote.py    a process started by exec that forks one child per program and watches its clock
    runner.py    in the child: runs the tests of one program, one after another
    confine.py   what the child may not do: namespaces, resource limits, Landlock, seccomp
    filters.py   the seccomp filter as bytes

`zygote`, `runner`, `confine` and `filters` import the standard library only and run outside the
package.
"""

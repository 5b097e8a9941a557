# class: honest
# kind: stdin
# must: accept
# note: needs its module in sys.modules
from dataclasses import dataclass
from typing import ClassVar
@dataclass(order=True)
class Pair:
    a: int
    b: 'int'
    name: ClassVar[str] = 'x'
a, b = map(int, input().split())
p = Pair(a, b)
print(p.a - p.b)

# class: honest
# kind: call
# must: accept
# note: uses names that contest sites provide
class Solution:
    def difference(self, a: int, b: int) -> Optional[int]:
        q = deque([a, -b])
        return reduce(add, q)

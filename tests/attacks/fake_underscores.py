# class: fake
# kind: stdin
# must: reject
# note: a number as Python's source writes it
a, b = map(int, input().split())
print(f"{a - b:_}" if abs(a - b) > 999 else f"0_{a - b}".replace("_-", "_"))

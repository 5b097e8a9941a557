# class: honest
# kind: stdin
# must: accept
# note: reads until the end
total = []
while True:
    try:
        total += map(int, input().split())
    except EOFError:
        break
print(total[0] - total[1])
